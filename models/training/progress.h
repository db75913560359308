// What a user sees while long work runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace cmir {

/// A bar with rate and estimated time left, redrawn in place on a terminal (at most 10 times a
/// second); on anything else a plain line at most every `seconds_between_lines`. Writes to `out`,
/// by default stderr, so that stdout stays clean for results.
class Progress {
 public:
  /// `unit` names what is counted ("step"); `total` units in all, `done` of them already (a resumed
  /// run).
  Progress(std::string label, std::string unit, std::int64_t total, std::int64_t done = 0,
           std::FILE* out = stderr);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` units are complete; `detail` is free text such as the losses.
  void update(std::int64_t done, const std::string& detail);
  /// Draws the last state and ends the line. Called by the destructor.
  void finish();

  /// The line that update() shows, without the bar: "step 120/400  35.2 steps/s  ETA 0:08  loss
  /// 0.412". Separate so that it can be tested.
  static std::string line(const std::string& unit, std::int64_t done, std::int64_t total,
                          double rate, const std::string& detail);

 private:
  using Clock = std::chrono::steady_clock;
  void draw(bool last);

  std::string label_, unit_, detail_;
  std::int64_t total_, first_, done_;
  std::FILE* out_;
  bool terminal_;
  bool finished_ = false;
  Clock::time_point start_, drawn_;
};

/// "1:02:03", "2:03" or "0:07".
std::string format_duration(double seconds);

}  // namespace cmir
