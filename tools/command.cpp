#include "tools/command.h"

#include "core/error.h"
#include "core/parallel.h"

namespace cmir::tools {

void ConfigOptions::add_to(CLI::App& command, bool config_required) {
  command
      .add_option(
          "config", config,
          "configuration: a TOML file, or the name of a shipped one (cmir inspect --configs)")
      ->required(config_required);
  command.add_option("--data", data,
                     "data set: a file, a folder, a name to look up, or synthetic:KEY=VALUE,...");
  command
      .add_option("--set", overrides, "set any key of the configuration: --set loss.environments=4")
      ->type_name("KEY=VALUE");
  add_threads(command, threads);
  add_device_option(command, device);
}

Config ConfigOptions::load() const {
  set_threads(threads);
  Config loaded = load_config(find_config(config));
  if (!data.empty()) loaded.data.path = data;
  for (const std::string& assignment : overrides) apply_override(loaded, assignment);
  if (!device.empty()) loaded.training.device = device;
  validate(loaded);
  usable_device(loaded.training.device);
  return loaded;
}

Dataset open_configured(const Config& config) {
  return open_dataset(config.data.path.empty() ? config.data.name : config.data.path);
}

void add_threads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "threads to use (default: all)")
      ->check(CLI::Range(1, 4096));
}

void set_threads(int threads) {
  if (threads > 0) set_thread_count(threads);
}

void add_device_option(CLI::App& command, std::string& device) {
  command.add_option("--device", device,
                     "cpu, cuda, cuda:N or simt: training.device of the configuration");
}

Device usable_device(const std::string& name) {
  const Device device = name.empty() ? Device{} : parse_device(name);
  require_available(device);
  return device;
}

}  // namespace cmir::tools
