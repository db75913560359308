#include "models/training/trace_report.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <tuple>

#include "core/error.h"
#include "core/formats/file.h"
#include "models/evaluation/report.h"
#include "models/evaluation/table.h"

namespace cmir {
namespace {

using Events = std::vector<TraceEvent>;

/// By time, what encloses others before them.
void sort_by_time(Events& events) {
  std::ranges::sort(events, {},
                    [](const TraceEvent& e) { return std::tuple(e.begin, -e.end, e.kind); });
}

Table phase_table(const TraceSummary& summary) {
  Table table(
      {{"phase"}, {"ms per step", Best::none, 3}, {"%"}, {"of which kernels, ms", Best::none, 3}});
  const auto add = [&](const std::string& name, std::int64_t time, std::int64_t in_kernels) {
    const double per_step = 1e-6 / static_cast<double>(summary.steps);
    table.add_row({name, static_cast<double>(time) * per_step,
                   100.0 * static_cast<double>(time) / static_cast<double>(summary.time),
                   static_cast<double>(in_kernels) * per_step});
  };
  std::int64_t in_kernels = 0;
  for (const auto& phase : summary.phases) {
    add(phase.name, phase.time, phase.in_kernels);
    in_kernels += phase.in_kernels;
  }
  table.add_rule();
  add("step", summary.time, in_kernels);
  return table;
}

Table kernel_table(const TraceSummary& summary) {
  Table table({{"kernel"},
               {"calls", Best::none, 0},
               {"total, ms", Best::none, 2},
               {"%"},
               {"mean, us", Best::none, 2},
               {"GB/s", Best::none, 2},
               {"Gflop/s", Best::none, 2}});
  const auto add = [&](const TraceSummary::Kernel& kernel) {
    const auto nanoseconds = static_cast<double>(kernel.time);
    const auto rate = [&](double amount) -> Cell {
      if (kernel.uncounted > 0 || kernel.bytes == 0) return "";
      return amount / nanoseconds;
    };
    table.add_row({kernel.name, static_cast<double>(kernel.calls), 1e-6 * nanoseconds,
                   100 * nanoseconds / static_cast<double>(summary.time),
                   1e-3 * nanoseconds / static_cast<double>(kernel.calls), rate(kernel.bytes),
                   rate(kernel.operations)});
  };
  for (const auto& kernel : summary.kernels) add(kernel);
  add({.name = "(outside kernels)",
       .calls = summary.steps,
       .time = summary.time - summary.together.time});
  table.add_rule();
  TraceSummary::Kernel step = summary.together;
  step.name = "step";
  step.calls = summary.steps;
  step.time = summary.time;
  add(step);
  return table;
}

/// Of a step, by its kernels' contracts.
std::string cost_line(const TraceSummary& summary) {
  const auto& all = summary.together;
  const double per_step = 1e-6 / static_cast<double>(summary.steps);
  std::string line = fmt::format("a step moves {:.1f} MB and does {:.1f} Mflop",
                                 all.bytes * per_step, all.operations * per_step);
  if (all.uncounted > 0)
    line += fmt::format(", without {} of {} calls that are not counted", all.uncounted, all.calls);
  return line;
}

void add_call(TraceSummary::Kernel& sum, const TraceEvent& call) {
  ++sum.calls;
  sum.time += call.end - call.begin;
  if (call.cost.bytes < 0) {
    ++sum.uncounted;
    return;
  }
  sum.bytes += static_cast<double>(call.cost.bytes);
  sum.operations += static_cast<double>(call.cost.operations);
}

Json other_data(const Trace& trace, const TraceSummary& summary) {
  Json json = {{"steps", summary.steps}, {"dropped events", trace.dropped()}};
  if (summary.steps > 0) {
    json["phases"] = to_json(phase_table(summary));
    json["kernels"] = to_json(kernel_table(summary));
    json["cost"] = cost_line(summary);
  }
  return json;
}

void add_thread(std::string& text, const TraceBuffer& buffer, int number) {
  const auto out = std::back_inserter(text);
  fmt::format_to(out,
                 "{}\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":{},"
                 "\"args\":{{\"name\":\"{}\"}}}}",
                 number == 1 ? "" : ",", number, buffer.thread());
  Events events(buffer.events().begin(), buffer.events().end());
  sort_by_time(events);
  for (const TraceEvent& e : events) {
    fmt::format_to(out,
                   ",\n{{\"name\":\"{}\",\"cat\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":{},"
                   "\"ts\":{}.{:03},\"dur\":{}.{:03}",
                   e.name, name_of(e.kind), number, e.begin / 1000, e.begin % 1000,
                   (e.end - e.begin) / 1000, (e.end - e.begin) % 1000);
    if (e.number >= 0) fmt::format_to(out, ",\"args\":{{\"number\":{}}}", e.number);
    if (e.cost.bytes >= 0) {
      fmt::format_to(out, ",\"args\":{{\"bytes\":{},\"operations\":{}}}", e.cost.bytes,
                     e.cost.operations);
    }
    text += '}';
  }
}

}  // namespace

TraceSummary summarise(const Trace& trace) {
  Events events;
  for (const TraceBuffer* buffer : trace.buffers()) {
    if (buffer->thread() != "train" && buffer->thread() != "GPU") continue;
    events.insert(events.end(), buffer->events().begin(), buffer->events().end());
  }
  sort_by_time(events);
  TraceSummary summary{.phases = {{"forward"}, {"backward"}, {"optimizer"}, {"data"}, {"other"}}};
  std::map<std::string, TraceSummary::Kernel> kernels;
  TraceSummary::Phase* phase = nullptr;
  std::int64_t step_end = 0, kernel_end = 0;
  for (const TraceEvent& e : events) {
    const std::int64_t time = e.end - e.begin;
    if (e.kind == TraceKind::step) {
      ++summary.steps;
      summary.time += time;
      step_end = e.end;
    }
    if (e.begin >= step_end) continue;  // of a step that was not finished
    if (e.kind == TraceKind::phase) {
      phase = &*std::ranges::find(summary.phases, e.name, &TraceSummary::Phase::name);
      phase->time += time;
    } else if (e.kind == TraceKind::kernel && e.end > kernel_end) {
      kernel_end = e.end;
      phase->in_kernels += time;
      kernels[e.name].name = e.name;
      for (TraceSummary::Kernel* sum : {&kernels[e.name], &summary.together}) add_call(*sum, e);
    }
  }
  for (auto& [name, kernel] : kernels) summary.kernels.push_back(std::move(kernel));
  std::ranges::sort(summary.kernels, std::greater{}, &TraceSummary::Kernel::time);
  return summary;
}

std::string describe(const TraceSummary& summary) {
  if (summary.steps == 0) return "no step was traced, no file written";
  return fmt::format("{} steps traced\n{}\n{}{}\n", summary.steps, phase_table(summary).plain(),
                     kernel_table(summary).plain(), cost_line(summary));
}

void write_trace(const Trace& trace, const std::filesystem::path& file) {
  std::string text = "{\"traceEvents\":[";
  int number = 0;
  for (const TraceBuffer* buffer : trace.buffers()) add_thread(text, *buffer, ++number);
  fmt::format_to(std::back_inserter(text), "\n],\"displayTimeUnit\":\"ns\",\"otherData\":{}}}\n",
                 other_data(trace, summarise(trace)).dump());
  write_file_atomically(file, text);
}

}  // namespace cmir
