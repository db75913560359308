#include "models/experiments/mi_gaussian.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <optional>

#include "core/error.h"
#include "models/evaluation/plot.h"
#include "models/experiments/trial.h"
#include "models/networks/estimator.h"
#include "models/training/interrupt.h"
#include "models/training/optimizer.h"
#include "models/training/progress.h"

namespace cmir {
namespace {

struct NamedEstimator {
  std::string name, form;
};
const NamedEstimator kEstimators[] = {
    {"vCLUB", "club"},      {"CLUBSample", "club_sample"},
    {"L1Out", "l1out"},     {"variational", "variational"},
    {"InfoNCE", "infonce"}, {"NWJ", "nwj"},
    {"MINE", "mine"},
};

struct Pairs {
  Variable x, y;
};

/// Batch number `step`.
Pairs draw(const MiGaussianOptions& options, double nats, bool cubic, std::int64_t step) {
  const double rho = std::sqrt(1 - std::exp(-2 * nats / static_cast<double>(options.width)));
  const RandomStream stream{
      .seed = options.seed, .step = static_cast<std::uint32_t>(step), .site = 1};
  const std::int64_t count = options.batch * options.width;
  std::vector<float> x(count), y(count);
  for (std::int64_t i = 0; i < count; ++i) {
    x[i] = stream.normal(2 * i);
    const double value = rho * x[i] + std::sqrt(1 - rho * rho) * stream.normal(2 * i + 1);
    y[i] = static_cast<float>(cubic ? value * value * value : value);
  }
  const Shape shape{options.batch, options.width};
  return {Variable(Tensor::from(x, shape, options.device)),
          Variable(Tensor::from(y, shape, options.device))};
}

struct Accuracy {
  double mean = 0, deviation = 0, error = 0;  // error: root mean squared
};

Accuracy accuracy_of(const std::vector<double>& estimates, double truth) {
  double mean = 0, squares = 0;
  for (const double x : estimates) mean += x / static_cast<double>(estimates.size());
  for (const double x : estimates)
    squares += (x - mean) * (x - mean) / static_cast<double>(estimates.size());
  return {mean, std::sqrt(squares), std::sqrt(squares + (mean - truth) * (mean - truth))};
}

/// One estimator through all levels; `on_step` after each of its steps.
std::vector<Accuracy> run(const NamedEstimator& named, bool cubic, const MiGaussianOptions& options,
                          const std::function<void()>& on_step) {
  ParameterStore store(options.seed, DType::f32, options.device);
  const InformationEstimator estimator(named.form, store, "estimator", options.width,
                                       options.hidden);
  AdamW optimizer(
      {{.parameters = store.list(), .learning_rate = options.learning_rate, .weight_decay = 0}});
  std::vector<Accuracy> accuracies;
  std::int64_t step = 0;
  for (const double nats : options.nats) {
    std::vector<double> estimates;
    for (std::int64_t i = 0; i < options.steps; ++i, ++step) {
      if (InterruptGuard::requested())
        throw Interrupted("interrupted; nothing was kept, it takes but minutes");
      const Pairs pairs = draw(options, nats, cubic, step);
      if (i >= options.steps - std::max<std::int64_t>(1, options.steps / 4)) {
        const NoGradScope no_grad;
        const RandomStream negatives{
            .seed = options.seed, .step = static_cast<std::uint32_t>(step), .site = 2};
        estimates.push_back(estimator.bound(pairs.x, pairs.y, negatives).value().item());
      }
      optimizer.zero_gradients();
      backward(estimator.loss(pairs.x, pairs.y));
      optimizer.step();
      on_step();
    }
    accuracies.push_back(accuracy_of(estimates, nats));
  }
  return accuracies;
}

Table table_of(const MiGaussianOptions& options) {
  std::vector<Column> columns = {{"estimator"}, {"pairs"}, {"of it"}};
  for (const double nats : options.nats)
    columns.push_back({fmt::format("{:g} nats", nats), Best::none, 2});
  return Table(std::move(columns));
}

/// What lies higher would press the other lines together in the picture.
double most_drawn(const MiGaussianOptions& options) {
  return 2 * *std::ranges::max_element(options.nats) + 1;
}

void add_results(const std::string& estimator, const std::string& pairs,
                 const MiGaussianOptions& options, const std::vector<Accuracy>& accuracies,
                 int style, StudyReport& report, LineChart& chart) {
  std::vector<Cell> means{estimator, pairs, "estimate"}, biases{estimator, pairs, "bias"},
      variances{estimator, pairs, "variance"}, errors{estimator, pairs, "mean squared error"};
  Series line{.name = estimator + ", " + pairs,
              .x = options.nats,
              .style = style,
              .dashed = pairs == "cubic"};
  for (std::size_t k = 0; k < accuracies.size(); ++k) {
    const Accuracy& a = accuracies[k];
    const double bias = a.mean - options.nats[k], variance = a.deviation * a.deviation,
                 squared_error = a.error * a.error;
    means.emplace_back(a.mean);
    biases.emplace_back(bias);
    variances.emplace_back(variance);
    errors.emplace_back(squared_error);
    line.y.push_back(a.mean <= most_drawn(options) ? a.mean : NAN);
    line.error.push_back(a.deviation);
    report.json["estimates"].push_back({{"estimator", estimator},
                                        {"pairs", pairs},
                                        {"nats", options.nats[k]},
                                        {"mean", a.mean},
                                        {"bias", bias},
                                        {"variance", variance},
                                        {"mse", squared_error}});
  }
  for (std::vector<Cell>* row : {&means, &biases, &variances, &errors})
    report.table.add_row(std::move(*row));
  report.table.add_rule();
  chart.series.push_back(std::move(line));
}

}  // namespace

StudyReport mi_gaussian_study(const MiGaussianOptions& options) {
  for (const double nats : options.nats) {
    require(nats >= 0, "mi-gaussian", "mutual information is not negative, got {} nats", nats);
  }
  StudyReport report{.title =
                         "mutual information of Gaussian pairs: estimates, their bias, variance "
                         "and mean squared error, in nats",
                     .table = table_of(options),
                     .json = {{"estimates", Json::array()}}};
  LineChart chart{.title = fmt::format("{}; none above {:g}", report.title, most_drawn(options)),
                  .x_label = "mutual information",
                  .y_label = "estimate"};
  const std::int64_t total = 2 * static_cast<std::int64_t>(std::size(kEstimators)) *
                             static_cast<std::int64_t>(options.nats.size()) * options.steps;
  std::optional<Progress> progress;
  if (options.show_progress) progress.emplace("mi-gaussian", "step", total);
  std::int64_t done = 0;
  for (const bool cubic : {false, true}) {
    for (const NamedEstimator& named : kEstimators) {
      const auto accuracies = run(named, cubic, options, [&] {
        ++done;
        if (progress) progress->update(done, named.name);
      });
      const auto style = static_cast<int>(&named - std::begin(kEstimators));
      add_results(named.name, cubic ? "cubic" : "linear", options, accuracies, style, report,
                  chart);
    }
  }
  chart.series.push_back({.name = "truth",
                          .x = options.nats,
                          .y = options.nats,
                          .style = static_cast<int>(std::size(kEstimators))});
  report.picture = svg(chart);
  return report;
}

}  // namespace cmir
