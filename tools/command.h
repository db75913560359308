// What the subcommands of `cmir` share.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/config.h"
#include "models/data/dataset.h"

namespace cmir::tools {

/// Options of every command that reads a configuration.
struct ConfigOptions {
  std::string config;                  ///< a file, or the name of a shipped configuration
  std::string data;                    ///< overrides data.path
  std::vector<std::string> overrides;  ///< "section.key=value"
  int threads = 0;
  std::string device;  ///< overrides training.device

  void add_to(CLI::App& command, bool config_required = true);
  /// Of results: the configuration's name, or its file's.
  std::string name() const { return std::filesystem::path(config).stem().string(); }
  /// Loads, overrides and checks the configuration; sets the thread count.
  Config load() const;
};

/// Opens the data set of a configuration: data.path, or data.name looked up where data sets are
/// kept.
Dataset open_configured(const Config& config);

/// The option --threads of a command, for set_threads().
void add_threads(CLI::App& command, int& threads);
void set_threads(int threads);
void add_device_option(CLI::App& command, std::string& device);
/// The device called `name` ("" is the CPU). Error, which says why, unless it can be used.
Device usable_device(const std::string& name);

/// Ends the program with this code, after all has been said.
struct ExitCode {
  int code;
};
inline constexpr int kSlower = 6;  ///< a case of `cmir bench --compare`

void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_predict(CLI::App& app);
void add_experiment(CLI::App& app);
void add_data(CLI::App& app);
void add_inspect(CLI::App& app);
void add_gradcheck(CLI::App& app);
void add_bench(CLI::App& app);

}  // namespace cmir::tools
