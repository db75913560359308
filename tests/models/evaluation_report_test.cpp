#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "models/evaluation/report.h"

namespace cmir {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class Report : public testing::Test {
 protected:
  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("cmir_report_" + std::to_string(::getpid()));
  void SetUp() override { std::filesystem::create_directories(directory); }
  void TearDown() override { std::filesystem::remove_all(directory); }
};

TEST_F(Report, KeepsOrderAndWritesNaNAsNull) {
  const std::string path = directory / "report.json";
  Table table({{"model"}, {"Acc2", Best::highest, 1}, {"MAE", Best::lowest, 3}});
  table.add_row({"paper", 89.6, 0.616}, true);
  table.add_row({"vanilla", {85.84, 0.31}, kNaN});
  table.add_row({"empty", Cell(), "n/a"});
  write_json(path,
             {{"rows", to_json(table)},
              {"metrics", to_json(MetricValues{{{"MAE", 0.5}, {"Corr", kNaN}, {"Acc", 1}}})}});
  std::ifstream file(path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_LT(text.find("MAE"), text.rfind("Acc"));
  const Json back = read_json(path);
  EXPECT_EQ(back["rows"][1]["Acc2"]["mean"], 85.84);
  EXPECT_EQ(back["rows"][1]["Acc2"]["sd"], 0.31);
  EXPECT_EQ(back["rows"][0]["model"], "paper");
  EXPECT_TRUE(back["metrics"]["Corr"].is_null());
  EXPECT_TRUE(back["rows"][1]["MAE"].is_null());
  EXPECT_TRUE(back["rows"][2]["Acc2"].is_null());
  EXPECT_EQ(back["rows"][2]["MAE"], "n/a");
}

TEST_F(Report, BadFilesAreErrors) {
  EXPECT_THROW(write_json(directory / "missing" / "report.json", {}), Error);
  EXPECT_THROW(read_json(directory / "absent.json"), Error);
  std::ofstream(directory / "broken.json") << "{\"a\": ";
  EXPECT_THROW(read_json(directory / "broken.json"), Error);
  const std::string path = directory / "bytes.json";
  write_json(path, {{"name", "\xff"}});
  EXPECT_EQ(read_json(path)["name"], "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace cmir
