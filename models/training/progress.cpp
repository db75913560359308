#include "models/training/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

namespace cmir {
namespace {
constexpr double kSecondsBetweenRedraws = 0.1;
constexpr double kSecondsBetweenLines = 10;
}  // namespace

std::string format_duration(double seconds) {
  const auto s = static_cast<std::int64_t>(std::clamp(seconds, 0.0, 3.6e8));
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

Progress::Progress(std::string label, std::string unit, std::int64_t total, std::int64_t done,
                   std::FILE* out)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      first_(done),
      done_(done),
      out_(out),
      terminal_(isatty(fileno(out)) == 1),
      start_(Clock::now()),
      drawn_(start_) {}

Progress::~Progress() { finish(); }

std::string Progress::line(const std::string& unit, std::int64_t done, std::int64_t total,
                           double rate, const std::string& detail) {
  const std::string eta =
      rate > 0 ? format_duration(static_cast<double>(total - done) / rate) : "?";
  return fmt::format("{} {}/{}  {:.1f} {}s/s  ETA {}  {}", unit, done, total, rate, unit, eta,
                     detail);
}

void Progress::draw(bool last) {
  const auto now = Clock::now();
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const std::string text =
      line(unit_, done_, total_, elapsed > 0 ? static_cast<double>(done_ - first_) / elapsed : 0,
           detail_);
  if (terminal_) {
    constexpr int kWidth = 24;
    const int filled = total_ > 0 ? static_cast<int>(kWidth * done_ / total_) : kWidth;
    fmt::print(out_, "\r{} [{:=<{}}{: <{}}] {}\x1b[K{}", label_, "", filled, "", kWidth - filled,
               text, last ? "\n" : "");
  } else {
    fmt::print(out_, "{}: {}\n", label_, text);
  }
  std::fflush(out_);
  drawn_ = now;
}

void Progress::update(std::int64_t done, const std::string& detail) {
  done_ = done;
  detail_ = detail;
  const double since = std::chrono::duration<double>(Clock::now() - drawn_).count();
  if (since >= (terminal_ ? kSecondsBetweenRedraws : kSecondsBetweenLines)) draw(false);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (done_ > first_) draw(true);
}

}  // namespace cmir
