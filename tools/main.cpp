// cmir: train, evaluate and study CmIR from the command line.
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "commit.h"
#include "core/error.h"
#include "models/experiments/trial.h"
#include "models/training/interrupt.h"
#include "tools/command.h"

namespace {

constexpr const char* kFooter = R"(examples:
  cmir train mosi_utt_b --out runs/b               train five seeds, write a table, a report and a picture
  cmir train synthetic --set training.epochs=5     any key of the configuration
  cmir eval runs/b                                 metrics of the trained models
  cmir predict runs/b/trials/CmIR-seed1 --data X   one line per sample
  cmir experiment ablation mosi_utt_b              the paper's studies
  cmir bench --quick                               kernels against this machine's ceilings and their peers
  cmir data convert mosi.pkl mosi.safetensors      files of MMSA, MulT, MISA, MAG-BERT, HKT, UR-FUNNY, CMU-SDK
exit codes: 0 done, 2 wrong usage, 3 invalid data, 4 file system or network, 5 not finite, 6 slower, 130 interrupted, 1 a bug)";

/// CLI11 would only say that a command is required.
void check_command(const CLI::App& app, std::string_view name) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  cmir::require(name.starts_with('-') || std::ranges::find(names, name) != names.end(), "command",
                "there is no '{}'; there are {}", name, fmt::join(names, ", "));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "CmIR: causal modality-invariant representations, trained end to end without a framework");
  app.require_subcommand(1);
  app.footer(kFooter);
  app.set_version_flag("--version", fmt::format("cmir {}, commit {}", CMIR_VERSION, kCommit),
                       "print the version and the commit");
  cmir::tools::add_train(app);
  cmir::tools::add_eval(app);
  cmir::tools::add_predict(app);
  cmir::tools::add_experiment(app);
  cmir::tools::add_data(app);
  cmir::tools::add_inspect(app);
  cmir::tools::add_gradcheck(app);
  cmir::tools::add_bench(app);
  try {
    const cmir::InterruptGuard guard;
    if (argc > 1) check_command(app, argv[1]);
    app.parse(argc, argv);
    if (std::fflush(stdout) != 0)
      throw std::system_error(errno, std::generic_category(), "standard output");
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const cmir::tools::ExitCode& exit) {
    return exit.code;
  } catch (const cmir::Interrupted& error) {
    fmt::print(stderr, "cmir: {}\n", error.what());
    return 130;
  } catch (const cmir::Error& error) {
    fmt::print(stderr, "cmir: error: {}\n", error.what());
    return static_cast<int>(error.kind());
  } catch (const std::system_error& error) {
    fmt::print(stderr, "cmir: error: {}\n", error.what());
    return static_cast<int>(cmir::ErrorKind::io);
  } catch (const std::exception& error) {
    fmt::print(stderr, "cmir: internal error: {}\n", error.what());
    return 1;
  }
}
