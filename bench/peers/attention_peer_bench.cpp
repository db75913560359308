// Attention, forward and backward, on tensors of a file: what bench/peers/torch_attention.py times
// beside PyTorch.
//
//   attention_peer_bench INPUTS.safetensors RESULTS.safetensors THREADS
//
// reads query, key, value, doutput, the offsets and `heads`, writes output and the gradients, and
// then, for each line with a number of calls, prints the shortest call's wall time and the
// process's CPU time in it (seconds), and the largest memory that a call took beside its inputs
// (bytes).
#include <chrono>
#include <ctime>
#include <iostream>
#include <limits>

#include "autograd/attention.h"
#include "core/allocator.h"
#include "core/formats/safetensors.h"
#include "core/parallel.h"

namespace cmir {
namespace {

struct Inputs {
  Variable query, key, value;
  Tensor doutput, query_offsets, key_offsets;
  std::int64_t heads;

  explicit Inputs(const SafeTensors& file)
      : query(file.at("query").clone(), true),
        key(file.at("key").clone(), true),
        value(file.at("value").clone(), true),
        doutput(file.at("doutput").clone()),
        query_offsets(file.at("query_offsets").clone()),
        key_offsets(file.at("key_offsets").clone()),
        heads(static_cast<std::int64_t>(file.at("heads").item())) {}

  Tensor step() {
    for (Variable* x : {&query, &key, &value}) x->clear_gradient();
    const Variable output = ops::attention(query, key, value, query_offsets, key_offsets, heads);
    backward(output, {.seed = doutput});
    return output.value();
  }
};

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

void time_calls(Inputs& inputs, int calls) {
  double wall = std::numeric_limits<double>::infinity(), cpu = wall;
  CachingAllocator& allocator = cpu_allocator();
  for (Variable* x : {&inputs.query, &inputs.key, &inputs.value}) x->clear_gradient();
  allocator.reset_peak();
  const std::size_t before = allocator.stats().live;
  for (int i = 0; i < calls; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const double cpu_begin = cpu_seconds();
    inputs.step();
    cpu = std::min(cpu, cpu_seconds() - cpu_begin);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    wall = std::min(wall, seconds.count());
  }
  std::cout << fmt::format("{} {} {}", wall, cpu, allocator.stats().peak - before) << std::endl;
}

int run_program(int argc, char** argv) {
  require(argc == 4, "attention_peer_bench", "needs INPUTS RESULTS THREADS");
  set_thread_count(std::stoi(argv[3]));
  Inputs inputs(SafeTensors::open(argv[1]));
  const Tensor output = inputs.step();
  write_safetensors(argv[2], {{"output", output},
                              {"dquery", inputs.query.gradient()},
                              {"dkey", inputs.key.gradient()},
                              {"dvalue", inputs.value.gradient()}});
  std::cout << "ready" << std::endl;
  for (int calls = 0; std::cin >> calls;) time_calls(inputs, calls);
  return 0;
}

}  // namespace
}  // namespace cmir

int main(int argc, char** argv) {
  try {
    return cmir::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
