// cmir gradcheck: the gradient cases of every op, as the tests run them.
#include <fmt/format.h>

#include <algorithm>

#include "autograd/gradcheck.h"
#include "core/error.h"
#include "models/evaluation/table.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

void check(const std::vector<std::string>& wanted) {
  std::vector<OpInfo> ops = registered_ops();
  for (const std::string& name : wanted) {
    require(std::ranges::find(ops, name, &OpInfo::name) != ops.end(), "gradcheck",
            "there is no op '{}'; run without names to see all", name);
  }
  if (!wanted.empty())
    std::erase_if(ops, [&](const OpInfo& op) { return !std::ranges::count(wanted, op.name); });
  Table table({{"op"}, {"case"}, {"relative error"}, {"result"}});
  bool passed = true;
  for (const OpReport& report : check_gradients(ops)) {
    const GradientReport& gradient = report.gradient;
    table.add_row({report.op, report.name, fmt::format("{:.1e}", gradient.worst),
                   gradient.passed ? "ok" : "FAILED " + gradient.where});
    passed = passed && gradient.passed;
  }
  fmt::print("{}", table.plain());
  if (!passed) fail(ErrorKind::numeric, "gradcheck", "a gradient is wrong");
}

}  // namespace

void add_gradcheck(CLI::App& app) {
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* sub =
      app.add_subcommand("gradcheck", "check every op's gradient in f64 against differences");
  sub->add_option("ops", *names, "only these");
  sub->callback([names] { check(*names); });
}

}  // namespace cmir::tools
