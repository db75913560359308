// cmir bench: what it makes of benchmark programs, which are shell scripts here, and what its
// numbers are.
#include <fmt/ranges.h>

#include <cmath>

#include "bench/report/ceilings.h"
#include "bench/report/compare.h"
#include "bench/report/results.h"
#include "bench/report/scaling.h"
#include "core/philox.h"
#include "models/experiments/study.h"
#include "tests/tools/program.h"

namespace cmir::bench {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// An entry as Google Benchmark writes it.
std::string entry(const std::string& name, double microseconds, double gigabytes = 0,
                  double gigaflops = 0) {
  return fmt::format(
      R"({{"name": "{}/real_time", "run_type": "iteration", "real_time": {}, "time_unit": "us", )"
      R"("GB": {}, "Gflop": {}}})",
      name, microseconds, gigabytes, gigaflops);
}
std::string with_memory(const std::string& name, double megabytes) {
  return fmt::format(
      R"({{"name": "{}", "run_type": "iteration", "real_time": 1, "time_unit": "us", )"
      R"("peak_MB": {}}})",
      name, megabytes);
}
std::string document(const std::vector<std::string>& entries) {
  return fmt::format(
      R"({{"context": {{"host_name": "secret", "cpu": "a <b> CPU"}}, "benchmarks": [{}]}})",
      fmt::join(entries, ",\n"));
}
Results results_of(const std::vector<std::string>& entries) {
  Results results;
  results.add(Json::parse(document(entries)), "family");
  return results;
}
const std::vector<std::string> kCeilingEntries = {
    entry("ceiling_copy/cpu/bytes:1000/threads:1", 1, 100),
    entry("ceiling_copy/cpu/bytes:100000/threads:1", 1, 20),
    entry("ceiling_copy/cpu/bytes:100000/threads:2", 1, 40),
    entry("ceiling_product<f32>/cpu/n:64/threads:2", 1, 0, 200), entry("ceiling_launch/cpu", 0.5)};

TEST(BenchResults, ReadAnInterruptedDocumentUpToItsLastCompleteEntry) {
  const std::string whole = document({entry("a/cpu/n:1", 1), entry("b}{]\\\"/cpu", 2)});
  const std::size_t second = whole.find("b}");
  EXPECT_EQ(complete_entries(whole), 2);
  EXPECT_EQ(complete_entries(whole.substr(0, second)), 1);
  EXPECT_EQ(read_document(whole.substr(0, second), "x").at("benchmarks").size(), 1);
  EXPECT_THROW(read_document(whole.substr(0, 30), "x"), Error);
}

TEST(BenchResults, ReadNamesAndKeepEveryRepetition) {
  const Results results = results_of({entry("k<bf16>/cpu/gelu/rows:48/out:150/iterations:10", 3),
                                      entry("k<bf16>/cpu/gelu/rows:48/out:150/iterations:10", 1)});
  const std::vector<Case> cases = results.cases();
  ASSERT_EQ(cases.size(), 1);
  const Case& c = cases[0];
  EXPECT_EQ(c.name, "k<bf16>/cpu/gelu/rows:48/out:150");
  EXPECT_EQ(std::tuple(c.kernel, c.place, c.variant), std::tuple("k<bf16>", "cpu", "gelu"));
  EXPECT_EQ(c.sizes_text(), "rows 48, out 150");
  EXPECT_DOUBLE_EQ(c.median(), 2e-6);
  EXPECT_EQ(results.benchmarks[1].at("repetition_index"), 1);
  EXPECT_FALSE(results.context.contains("host_name"));
}

TEST(BenchCeilings, LieBetweenMeasuredSizesAndAreTheBestOfTheThreads) {
  const Ceilings ceilings(results_of(kCeilingEntries).cases(), "cpu");
  EXPECT_DOUBLE_EQ(ceilings.copy_rate(1), 100e9);
  EXPECT_NEAR(ceilings.copy_rate(10000), 60e9, 1);  // half way, by logarithms, from 100 to 20
  EXPECT_DOUBLE_EQ(ceilings.memory_rate(), 40e9);
  EXPECT_DOUBLE_EQ(ceilings.memory_rate(true), 20e9);
  EXPECT_DOUBLE_EQ(ceilings.product_rate("f32"), 200e9);
}

TEST(BenchCeilings, ShareIsOfWhatLimits) {
  const Ceilings ceilings(results_of(kCeilingEntries).cases(), "cpu");
  const auto share = [&](const std::string& text) {
    const Share found = share_of(results_of({text}).cases().at(0), ceilings);
    return std::pair(found.value, std::string(found.limit));
  };
  const auto near = [](double value, const char* limit) {
    return ::testing::Pair(::testing::DoubleNear(value, 1e-9), limit);
  };
  EXPECT_THAT(share(entry("k<f32>/cpu/n:1", 100, 20, 50)), near(0.5, "memory"));
  EXPECT_THAT(share(entry("k<f32>/cpu/threads:1", 100, 10, 50)), near(0.5, "memory"));
  EXPECT_THAT(share(entry("k<f32>/cpu/n:1", 100, 4, 150)), near(0.75, "arithmetic"));
  EXPECT_THAT(share(entry("k<f32>/cpu/n:1", 1, 1, 1)), near(0.5, "launch"));
  EXPECT_THAT(share(entry("k<f32>/cpu_cold/n:1", 1e-4 * 1e6, 30, 1)), near(0.75, "memory"));
  EXPECT_THAT(share(entry("k<bf16>/cpu/n:1", 100, 4, 150)), near(0.75, "arithmetic"));  // by f32's
  EXPECT_EQ(share(entry("k<f32>/cpu/n:1", 1)).first, 0);
}

TEST(BenchCeilings, ProductsInF32AreHeldAgainstThreeInTf32) {
  const auto rate = [](double tf32, const std::string& name) {
    const Results results =
        results_of({entry("ceiling_copy/cuda/bytes:1000/threads:1", 1, 100),
                    entry("ceiling_product<f32>/cuda/n:64/threads:1", 1, 0, 50),
                    entry("ceiling_product<tf32>/cuda/n:64/threads:1", 1, 0, tf32)});
    return 1e-9 * Ceilings(results.cases(), "cuda")
                      .product_rate_for(results_of({entry(name, 1)}).cases().at(0));
  };
  EXPECT_NEAR(rate(600, "k<f32>/cuda/n:1"), 200, 1e-9);
  EXPECT_NEAR(rate(60, "k<f32>/cuda/n:1"), 50, 1e-9);
  EXPECT_NEAR(rate(600, "k<f32>/cuda/tf32/n:1"), 600, 1e-9);
  EXPECT_NEAR(rate(600, "k<bf16>/cuda/n:1"), 50, 1e-9);
  EXPECT_EQ(rate(600, "k<f64>/cuda/n:1"), 0);
}

TEST(BenchCompare, WelchIsTheTextbooksOnLogarithms) {
  const std::vector<double> base{1, 1.1, 0.9}, now{2, 2.2, 1.8};
  const Ratio ratio = welch_ratio(base, now);
  EXPECT_NEAR(ratio.value, 2, 1e-12);
  // Equal variances: four degrees of freedom, t = 2.776445.
  const double logs[] = {0, std::log(1.1), std::log(0.9)};
  const double reach = 2.776445105 * std::sqrt(2 * std::pow(standard_deviation(logs), 2) / 3);
  EXPECT_NEAR(ratio.interval.low, 2 * std::exp(-reach), 1e-6);
  EXPECT_NEAR(ratio.interval.high, 2 * std::exp(reach), 1e-6);
  EXPECT_TRUE(std::isinf(welch_ratio(base, std::vector{2.0}).interval.high));
}

TEST(BenchCompare, PairsCancelWhatBothMet) {
  const std::vector<double> base{1, 5, 2}, now{1.2, 6.0, 2.4};
  const Ratio ratio = paired_ratio(base, now);
  EXPECT_NEAR(ratio.interval.low, 1.2, 1e-9);
  EXPECT_NEAR(ratio.interval.high, 1.2, 1e-9);
  EXPECT_LT(welch_ratio(base, now).interval.low, 1);
}

TEST(BenchCompare, FindsAlmostNoChangeWhereThereIsNone) {
  int wrong = 0;
  const RandomStream stream{.seed = 3};
  for (std::uint64_t i = 0; i < 400; ++i) {
    std::vector<double> a, b;
    for (std::uint64_t k = 0; k < 5; ++k) {
      a.push_back(std::exp(0.1 * stream.normal(10 * i + k)));
      b.push_back(std::exp(0.1 * stream.normal(10 * i + 5 + k)));
    }
    const Interval interval = welch_ratio(a, b).interval;
    wrong += interval.low > 1 || interval.high < 1;
  }
  EXPECT_GT(wrong, 5);  // 20 of 400 are expected
  EXPECT_LT(wrong, 40);
}

TEST(BenchScaling, FitsTheExponentOfEachSweep) {
  EXPECT_NEAR(fit_power({1, 10, 100}, {3, 3e2, 3e4}).exponent, 2, 1e-12);
  EXPECT_NEAR(fit_power({1, 10, 100}, {3, 3e2, 3e4}).error, 0, 1e-7);
  const auto found =
      sweeps(results_of({entry("r_inv/cpu/over_K/N:8/K:1", 1), entry("r_inv/cpu/over_K/N:8/K:4", 8),
                         entry("r_inv/cpu/over_K/N:9/K:4", 8), entry("other/cpu/K:4", 8)})
                 .cases());
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(std::tuple(found[0].size, found[0].fixed), std::tuple("K", "N 8"));
  EXPECT_NEAR(found[0].time.exponent, 1.5, 1e-12);
}

class Bench : public test::ProgramTest {
 protected:
  /// A program that lists and writes these entries, then runs `rest`. Each run adds a line to
  /// "log", and its --benchmark_filter to "filters".
  void write_program(const std::string& folder, const std::string& family,
                     const std::vector<std::string>& entries, const std::string& rest = "") const {
    fs::create_directories(path(folder));
    const fs::path file = path(folder) / (family + "_bench");
    std::ofstream(path(folder) / (family + ".json")) << document(entries);
    std::ofstream script(file);
    script << "#!/bin/sh\nfor a; do case \"$a\" in --benchmark_filter=*) echo \"$a\" >>"
           << path("filters") << ";; esac; done\n"
           << "for a; do [ \"$a\" != --benchmark_list_tests=true ] || {\n";
    for (const std::string& text : entries)
      script << "echo '" << Json::parse(text).at("name").get<std::string>() << "'\n";
    script << "exit 0; }; done\necho " << folder << "/" << family << " >>" << path("log")
           << "\ncat " << path(folder) / (family + ".json") << "\n"
           << rest << "\n";
    script.close();
    fs::permissions(file, fs::perms::owner_all);
  }
  Json written() const { return Json::parse(test::read_text(path("o/bench.json"))); }
};

TEST_F(Bench, WritesATableADocumentAndAPage) {
  write_program("p", "ceilings", kCeilingEntries);
  write_program("p", "axpy",
                {entry("axpy<f32>/cpu/count:8", 100, 20, 50),
                 entry("axpy<f32>/cpu_cold/count:8", 200, 10, 25),
                 entry("axpy<f32>/naive/count:8", 300, 10, 25)});
  const test::Finished finished = run({"bench", "--programs", "p", "--out", "o"});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, AllOf(HasSubstr("axpy<f32>"), HasSubstr("50 %"), HasSubstr("memory"),
                                  HasSubstr("naive 3.00"), HasSubstr("25 %")));
  const Json json = written();
  const Json& kernel = json.at("benchmarks").at(5);
  EXPECT_NEAR(kernel.at("share_of_ceiling").get<double>(), 0.5, 1e-9);
  EXPECT_EQ(kernel.at("family"), "axpy");
  EXPECT_EQ(json.at("context").at("ceilings").at("cpu").at("launch_us"), 0.5);
  const std::string page = test::read_text(path("o/report.html"));
  EXPECT_THAT(page, AllOf(HasSubstr("axpy&lt;f32&gt;"), HasSubstr("a &lt;b&gt; CPU"),
                          HasSubstr("Roofline, cpu"), HasSubstr("prefers-color-scheme: dark"),
                          HasSubstr("count 8): 50"), Not(HasSubstr("Scaling"))));
  for (const char* fetches : {"src=", "href=", "@import", "url(", "<script", "secret"})
    EXPECT_THAT(page, Not(HasSubstr(fetches)));
}

TEST_F(Bench, DrawsScalingAndNamesTheTimeInAGraph) {
  write_program(
      "p", "scaling",
      {entry("r_inv/cpu/over_K/N:8/K:1", 1), entry("r_inv/cpu/over_K/N:8/K:4", 8),
       with_memory("r_inv/cuda/over_N/N:8", 1), with_memory("r_inv/cuda/over_N/N:32", 2)});
  write_program("p", "axpy",
                {R"({"name": "axpy<f32>/cuda/count:8", "run_type": "iteration", )"
                 R"("real_time": 4, "time_unit": "us", "GB": 1, "graph_us": 1.5})",
                 entry("axpy<f32>/cuda_cold/count:8", 9)});
  const test::Finished finished = run({"bench", "--programs", "p", "--out", "o"});
  EXPECT_THAT(finished.out, AllOf(HasSubstr("us in a graph"), HasSubstr("1.50"), HasSubstr("9.00"),
                                  HasSubstr("K^1.50")));
  const std::string page = test::read_text(path("o/report.html"));
  EXPECT_THAT(page, AllOf(HasSubstr("Time over K"), HasSubstr("<polyline"), HasSubstr("K^1.50"),
                          Not(HasSubstr("Memory over K")), HasSubstr("Memory over N"),
                          HasSubstr("r_inv (cuda): N^0.50"), Not(HasSubstr("Roofline"))));
}

TEST_F(Bench, ShowsTheTrainingStepLikeAKernel) {
  std::vector<std::string> ceilings = kCeilingEntries;
  ceilings.push_back(entry("ceiling_copy/cuda/bytes:1000/threads:1", 1, 1000));
  ceilings.push_back(entry("ceiling_product<f32>/cuda/n:64/threads:1", 1, 0, 2000));
  write_program("p", "ceilings", ceilings);
  write_program("p", "train_step",
                {entry("train_step/eager/lengths/samples:48/threads:1", 200, 2, 30),
                 entry("train_step/eager/lengths/samples:48/threads:2", 100, 4, 60),
                 entry("train_step/recorded@cuda/lengths/samples:48", 10, 40, 600)});
  const test::Finished finished = run({"bench", "--programs", "p", "--out", "o"});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, AllOf(HasSubstr("60.0     30 %        arithmetic"),
                                  HasSubstr("600      30 %        arithmetic")));
  const std::string page = test::read_text(path("o/report.html"));
  EXPECT_THAT(page, AllOf(HasSubstr("train_step lengths (samples 48, threads 2): 60 Gflop/s, 30 %"),
                          HasSubstr("train_step lengths (samples 48): 600 Gflop/s, 30 %"),
                          Not(HasSubstr("threads 1): 30 Gflop/s"))));
}

TEST_F(Bench, SaysWhatIsMissing) {
  write_program("p", "axpy", {entry("axpy<f32>/cpu/count:8", 100)});
  expect_error({"bench", "--programs", "p", "--family", "axpi"}, 2, {"'axpi'", "there are axpy"});
  expect_error({"bench", "--programs", "nowhere"}, 4, {"'nowhere'", "cmake --build"});
  expect_error({"bench", "--programs", "p", "--compare", "no.json"}, 4, {"no.json"});
  std::ofstream(path("text.json")) << "{";
  expect_error({"bench", "--programs", "p", "--compare", "text.json"}, 3, {"text.json"});
  std::ofstream(path("other.json")) << R"({"context": {}, "benchmarks": [{"name": "a"}]})";
  expect_error({"bench", "--programs", "p", "--compare", "other.json"}, 3,
               {"other.json", "'a' has no \"real_time\""});
  std::ofstream(path("third.json")) << document({entry("scale<f32>/cpu/count:8", 100)});
  expect_error({"bench", "--programs", "p", "--compare", "third.json"}, 3,
               {"third.json", "none of the cases"});
  const test::Finished no_python = run({"bench", "--programs", "p", "--torch", "./nothing"});
  EXPECT_EQ(no_python.exit_code, 2);
  EXPECT_THAT(no_python.err,
              AllOf(HasSubstr("bench: ./nothing cannot be run"), Not(HasSubstr("bench: bench:"))));
  write_program("none", "axpy", {});
  expect_error({"bench", "--programs", "none", "--filter", "x"}, 2, {"'x' matches no case"});
  std::ofstream(path("file")) << "";
  expect_error({"bench", "--programs", "p", "--out", "file/o"}, 4, {"file/o"});
}

TEST_F(Bench, ComparesWithARecordedRun) {
  const auto times = [&](double first, double second) {
    return std::vector{entry("axpy<f32>/cpu/count:8", first),
                       entry("axpy<f32>/cpu/count:8", second)};
  };
  write_program("p", "axpy", times(100, 101));
  EXPECT_EQ(run({"bench", "--programs", "p", "--out", "b"}).exit_code, 0);
  const test::Arguments compare{"bench",     "--programs",   "p",           "--out", "o",
                                "--compare", "b/bench.json", "--threshold", "20"};
  EXPECT_EQ(run(compare).exit_code, 0);
  write_program("p", "axpy", times(150, 151));
  const test::Finished slower = run(compare);
  EXPECT_EQ(slower.exit_code, 6);
  EXPECT_THAT(slower.out, HasSubstr("SLOWER"));
  EXPECT_THAT(slower.err, HasSubstr("1 of 1 cases are slower by more than 20 %"));
  EXPECT_NEAR(written().at("comparison").at("cases").at(0).at("ratio").get<double>(), 1.5, 0.01);
  write_program("p", "axpy", times(50, 51));
  EXPECT_EQ(run(compare).exit_code, 0);
  const test::Finished folder =
      run({"bench", "--programs", "p", "--out", "o", "--compare", "b"});  // which has bench.json
  EXPECT_EQ(folder.exit_code, 0);
  EXPECT_THAT(folder.out, HasSubstr("faster"));
}

TEST_F(Bench, OnlyKernelsAreComparedAndOneTimeIsNone) {
  const auto cases = [&](double kernel, double peer) {
    return std::vector{entry("axpy<f32>/cpu/count:8", kernel),
                       entry("axpy<f32>/naive/count:8", peer)};
  };
  write_program("p", "axpy", cases(100, 100));
  EXPECT_EQ(run({"bench", "--programs", "p", "--out", "b"}).exit_code, 0);
  write_program("p", "axpy", cases(300, 900));
  const test::Finished finished =
      run({"bench", "--programs", "p", "--out", "o", "--compare", "b/bench.json"});
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.err, HasSubstr("1 of 1 cases were timed once on a side"));
}

TEST_F(Bench, TwoBuildsTakeTurns) {
  write_program("new", "axpy", {entry("axpy<f32>/cpu/count:8", 150)});
  write_program("old", "axpy", {entry("axpy<f32>/cpu/count:8", 100)});
  write_program("new", "ceilings", kCeilingEntries);
  write_program("old", "ceilings", kCeilingEntries);
  const test::Finished finished =
      run({"bench", "--programs", "new", "--compare", "old", "--out", "o", "--repetitions", "2"});
  EXPECT_EQ(finished.exit_code, 6) << finished.err;
  EXPECT_EQ(test::read_text(path("log")), "new/ceilings\nold/axpy\nnew/axpy\nold/axpy\nnew/axpy\n");
}

TEST_F(Bench, PeersAreNotRunToBeCompared) {
  for (const char* build : {"new", "old"}) {
    write_program(build, "axpy",
                  {entry("axpy<f32>/cpu/count:8", 150), entry("axpy<f32>/cpu_cold/count:8", 150),
                   entry("axpy<f32>/naive/count:8", 150), entry("gemm/eager/n:8", 9)});
    write_program(build, "peers", {entry("axpy<f32>/torch_eager/count:8", 150)});
  }
  const test::Finished finished =
      run({"bench", "--programs", "new", "--compare", "old", "--out", "o", "--repetitions", "1"});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(test::read_text(path("log")), "old/axpy\nnew/axpy\n");
  const std::string filter =
      "--benchmark_filter=^(axpy<f32>/cpu/count:8/real_time|axpy<f32>/cpu_cold/count:8/real_time|"
      "gemm/eager/n:8/real_time)$\n";
  EXPECT_EQ(test::read_text(path("filters")), filter + filter);
}

TEST_F(Bench, AFilterIsOfNamesAsTheyAreShown) {
  write_program("p", "axpy",
                {entry("axpy<f32>/cpu/count:8", 1), entry("axpy<f32>/cpu/count:88", 1),
                 entry("axpy(f32)/cpu/count:8", 1)});
  EXPECT_EQ(run({"bench", "--programs", "p", "--out", "o", "--filter", "^axpy.*:8$"}).exit_code, 0);
  EXPECT_EQ(test::read_text(path("filters")),
            "--benchmark_filter=^(axpy<f32>/cpu/count:8/real_time|axpy\\(f32\\)/cpu/count:8/"
            "real_time)$\n");
  expect_error({"bench", "--programs", "p", "--filter", ":9$"}, 2, {"':9$' matches no case"});
  expect_error({"bench", "--programs", "p", "--filter", "("}, 2, {"'(' is no regular expression"});
}

TEST_F(Bench, AWrongResultFails) {
  write_program("p", "axpy",
                {R"({"name": "axpy<f32>/cpu/count:8", "run_type": "iteration", )"
                 R"("error_occurred": true, "error_message": "element 3 is 7"})"},
                "exit 1");
  const test::Finished finished = run({"bench", "--programs", "p", "--out", "o"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, HasSubstr("axpy<f32>/cpu/count:8: element 3 is 7"));
}

/// A peer for which there is no memory: no failure, and the row says so.
TEST_F(Bench, WhatIsLeftOutIsNamedAndNoFailure) {
  const std::string left_out =
      R"({"name": "axpy<f32>/torch_eager/count:8/real_time", "run_type": "iteration", )"
      R"("real_time": 0, "time_unit": "us", "label": "not run: its matrices need 412 GB"})";
  write_program("p", "axpy", {entry("axpy<f32>/cpu/count:8", 100), left_out});
  const test::Finished finished = run({"bench", "--programs", "p", "--out", "o"});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("torch_eager not run"));
  EXPECT_EQ(run({"bench", "--programs", "p", "--compare", "o", "--out", "again"}).exit_code, 0);
}

TEST_F(Bench, AProgramThatCrashesFails) {
  write_program("p", "axpy", {entry("axpy<f32>/cpu/count:8", 100)}, "kill -SEGV $$");
  const test::Finished finished = run({"bench", "--programs", "p", "--out", "o"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, HasSubstr("axpy_bench ended with status 139"));
  EXPECT_EQ(written().at("benchmarks").size(), 1);
}

TEST_F(Bench, AnInterruptLeavesWhatWasMeasured) {
  write_program("p", "axpy", {entry("axpy<f32>/cpu/count:8", 100)}, "touch written; exec sleep 60");
  const Running running = start({"bench", "--programs", "p", "--out", "o"});
  test::wait_until([&] { return fs::exists(path("written")); });
  kill(running.pid, SIGINT);
  const test::Finished finished = wait(running);
  EXPECT_EQ(finished.exit_code, 130);
  EXPECT_THAT(finished.err, HasSubstr("what was measured is written"));
  EXPECT_EQ(written().at("benchmarks").size(), 1);
}

}  // namespace
}  // namespace cmir::bench
