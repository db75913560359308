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
  const auto ops = registered_ops();
  for (const std::string& name : wanted) {
    require(std::ranges::find(ops, name, &OpInfo::name) != ops.end(), "gradcheck",
            "there is no op '{}'; run without names to see all", name);
  }
  Table table({{"op"}, {"case"}, {"relative error"}, {"result"}});
  bool passed = true;
  for (const OpInfo& op : ops) {
    if (!wanted.empty() && std::ranges::find(wanted, op.name) == wanted.end()) continue;
    for (const GradientCase& c : op.gradient_cases()) {
      const GradientReport report = check_gradient(c);
      table.add_row({std::string(op.name), c.name, fmt::format("{:.1e}", report.worst),
                     report.passed ? "ok" : "FAILED " + report.where});
      passed = passed && report.passed;
    }
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
