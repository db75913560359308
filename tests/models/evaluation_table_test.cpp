#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "core/error.h"
#include "models/evaluation/table.h"

namespace cmir {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Table example() {
  Table table({{"model"}, {"Acc2", Best::highest, 1}, {"MAE", Best::lowest, 3}});
  table.add_row({"paper|CmIR", 89.6, 0.616}, true);
  table.add_rule();
  table.add_row({"vanilla", {85.84, 0.31}, 0.681});
  table.add_row({"CmIR ü", {88.123, kNaN}, {0.6204, 0.0019}});
  table.add_row({"tie", 88.12, kNaN});
  return table;
}

TEST(Table, PlainAlignsAndMarksTheBest) {
  EXPECT_EQ(example().plain(),
            "model       Acc2         MAE\n"
            "----------  -----------  --------------\n"
            "paper|CmIR  89.6         0.616\n"
            "----------  -----------  --------------\n"
            "vanilla     85.8  ± 0.3  0.681\n"
            "CmIR ü      88.1*        0.620* ± 0.002\n"
            "tie         88.1*            -\n");
}

TEST(Table, MarkdownEscapesAndMarksTheBest) {
  EXPECT_EQ(example().markdown(),
            "| model | Acc2 | MAE |\n"
            "| --- | ---: | ---: |\n"
            "| paper\\|CmIR | 89.6 | 0.616 |\n"
            "| vanilla | 85.8 ± 0.3 | 0.681 |\n"
            "| CmIR ü | **88.1** | **0.620** ± 0.002 |\n"
            "| tie | **88.1** | - |\n");
}

TEST(Table, ALoneRowIsNotCalledBest) {
  Table table({{"model"}, {"Acc", Best::highest}});
  table.add_row({"only", 50.0});
  EXPECT_EQ(table.plain().find('*'), std::string::npos);
}

TEST(Table, WrongSizesAreErrors) {
  EXPECT_THROW(Table({}), Error);
  Table table({{"a"}, {"b"}});
  EXPECT_THROW(table.add_row({"one"}), Error);
}

}  // namespace
}  // namespace cmir
