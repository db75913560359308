// cmir: train, evaluate and study CmIR from the command line.
#include <fmt/format.h>

#include <filesystem>

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
  cmir data convert mosi.pkl mosi.safetensors      files of MMSA, MulT, MISA, MAG-BERT, HKT, UR-FUNNY, CMU-SDK
exit codes: 0 done, 2 wrong usage, 3 invalid data, 4 file system or network, 5 not finite, 130 interrupted, 1 a bug)";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "CmIR: causal modality-invariant representations, trained end to end without a framework");
  app.require_subcommand(1);
  app.footer(kFooter);
  cmir::tools::add_train(app);
  cmir::tools::add_eval(app);
  cmir::tools::add_predict(app);
  cmir::tools::add_experiment(app);
  cmir::tools::add_data(app);
  cmir::tools::add_inspect(app);
  cmir::tools::add_gradcheck(app);
  try {
    const cmir::InterruptGuard guard;
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const cmir::Interrupted& error) {
    fmt::print(stderr, "cmir: {}\n", error.what());
    return 130;
  } catch (const cmir::Error& error) {
    fmt::print(stderr, "cmir: error: {}\n", error.what());
    return static_cast<int>(error.kind());
  } catch (const std::filesystem::filesystem_error& error) {
    fmt::print(stderr, "cmir: error: {}\n", error.what());
    return static_cast<int>(cmir::ErrorKind::io);
  } catch (const std::exception& error) {
    fmt::print(stderr, "cmir: internal error: {}\n", error.what());
    return 1;
  }
}
