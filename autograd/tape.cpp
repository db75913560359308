#include "autograd/tape.h"

#include <algorithm>
#include <atomic>
#include <unordered_set>
#include <utility>

#include "kernels/elementwise/axpy.h"

namespace cmir {
namespace {

thread_local bool recording_enabled = true;
std::atomic<std::uint64_t> next_order{0};

/// target += source, on the device of both.
void add_in_place(Tensor& target, const Tensor& source) {
  dispatch_float(target.dtype(), "accumulate", [&]<class T>() {
    kernels::run(target.device(), kernels::Axpy<T>{T{1}, source.data<T>(), target.mutable_data<T>(),
                                                   target.numel()});
  });
}

/// Every node that `root` depends on, the last made first. A node is made after its inputs, so this
/// is an order in which each node comes before all that it depends on.
std::vector<Node*> reverse_order(Node* root) {
  std::vector<Node*> found{root};
  std::unordered_set<Node*> seen{root};
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (const auto& input : found[i]->inputs()) {
      if (input && seen.insert(input.get()).second) found.push_back(input.get());
    }
  }
  std::ranges::sort(found, std::greater{}, &Node::order);
  return found;
}

void add_to(Tensor& sum, Tensor term) {
  if (!sum.defined()) {
    sum = std::move(term);
    return;
  }
  // Somebody else may hold the same tensor (an op may pass its gradient on unchanged): only write
  // to our own.
  if (!sum.unique()) sum = sum.clone();
  add_in_place(sum, term);
}

/// The node's complete gradient, after its hooks; the node lets go of it.
Tensor take_gradient(Node& node) {
  Tensor gradient = std::exchange(node.incoming, Tensor());
  for (const auto& hook : node.hooks) {
    Tensor replaced = hook(gradient);
    if (!replaced.defined()) continue;
    require(replaced.shape() == gradient.shape() && replaced.dtype() == gradient.dtype(), "hook",
            "returned {} for a gradient that is {}", replaced.describe(), gradient.describe());
    gradient = std::move(replaced);
  }
  return gradient;
}

/// However backward() ends, no node keeps a part of a sum for the next one.
struct ClearIncoming {
  const std::vector<Node*>& nodes;
  ~ClearIncoming() {
    for (Node* node : nodes) node->incoming = Tensor();
  }
};

}  // namespace

bool OpContext::recording() const { return std::ranges::find(needs_, true) != needs_.end(); }

const Tensor& OpContext::saved(std::size_t i) const {
  const Saved& saved = saved_.at(i);
  require(
      saved.tensor.version() == saved.version, "backward",
      "saved tensor {} ({}) was changed in place after forward saved it (version {} then, {} now); "
      "clone it before writing",
      i, saved.tensor.describe(), saved.version, saved.tensor.version());
  return saved.tensor;
}

OpContext context_of(std::span<const Variable> inputs) {
  std::vector<bool> needs;
  for (const Variable& input : inputs) {
    needs.push_back(gradients_enabled() && input.requires_gradient());
  }
  return OpContext(std::move(needs));
}

void check_one_device(std::string_view op, std::span<const Tensor> inputs) {
  const Tensor* first = nullptr;
  for (const Tensor& input : inputs) {
    if (!input.defined() || !is_floating(input.dtype())) continue;
    if (first == nullptr) first = &input;
    if (input.device() == first->device()) continue;
    fail(ErrorKind::usage, op, "its inputs {} and {} are on two devices; move one with Tensor::to",
         first->describe(), input.describe());
  }
}

Node::Node(std::string_view op, const Tensor& value, std::vector<std::shared_ptr<Node>> inputs)
    : op_(op),
      shape_(value.shape()),
      dtype_(value.dtype()),
      inputs_(std::move(inputs)),
      order_(next_order.fetch_add(1, std::memory_order_relaxed)) {}

Node::~Node() {
  // Iterative: destroying a long chain node by node through shared_ptr would recurse once per node.
  std::vector<std::shared_ptr<Node>> pending = std::move(inputs_);
  while (!pending.empty()) {
    std::shared_ptr<Node> node = std::move(pending.back());
    pending.pop_back();
    if (node && node.use_count() == 1) {
      std::ranges::move(node->inputs_, std::back_inserter(pending));
      node->inputs_.clear();
    }
  }
}

void Node::accumulate(Tensor sent, std::string_view from) {
  require(sent.shape() == shape_ && sent.dtype() == dtype_, from,
          "sends a gradient {} to {}, whose value is {}{}", sent.describe(), op_, name_of(dtype_),
          shape_.to_string());
  add_to(incoming, std::move(sent));
}

Gradients Node::backward(const Tensor&) {
  fail(ErrorKind::internal, op_, "a leaf has no backward");
}

Variable::Variable(Tensor value, bool requires_gradient) : value_(std::move(value)) {
  if (!requires_gradient) return;
  require(is_floating(value_.dtype()), "variable", "only floating values have gradients, got {}",
          value_.describe());
  node_ = std::make_shared<Node>("leaf", value_, std::vector<std::shared_ptr<Node>>{});
}

void Variable::add_hook(GradientHook hook) {
  require(node_ != nullptr, "add_hook", "{} needs no gradient", value_.describe());
  node_->hooks.push_back(std::move(hook));
}

NoGradScope::NoGradScope() : previous_(recording_enabled) { recording_enabled = false; }
NoGradScope::~NoGradScope() { recording_enabled = previous_; }
bool gradients_enabled() { return recording_enabled; }

void backward(const Variable& root, const BackwardOptions& options) {
  require(root.requires_gradient(), "backward",
          "the root depends on nothing that requires a gradient (made under NoGradScope?)");
  Tensor seed = options.seed;
  if (!seed.defined()) {
    require(
        root.value().numel() == 1, "backward",
        "a root of shape {} needs BackwardOptions::seed; only a single element has the default 1",
        root.shape().to_string());
    seed = Tensor::full(root.shape(), 1.0, root.dtype(), root.device());
  }
  NoGradScope no_grad;
  const std::vector<Node*> order = reverse_order(root.node().get());
  const ClearIncoming clear{order};
  root.node()->accumulate(std::move(seed), "backward's seed");
  for (Node* node : order) {
    if (!node->incoming.defined()) continue;  // an op gave no gradient along this path
    Tensor gradient = take_gradient(*node);
    if (node->is_leaf()) {
      add_to(node->gradient, std::move(gradient));
      // The optimizer and the user may write to it, so it must be the leaf's own.
      if (!node->gradient.unique()) node->gradient = node->gradient.clone();
      continue;
    }
    Gradients gradients = node->backward(gradient);
    gradient = Tensor();  // so that an input to which it was passed on unchanged owns it
    require(gradients.size() == node->inputs().size(), node->op(),
            "its backward returned {} gradients for {} inputs", gradients.size(),
            node->inputs().size());
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (node->inputs()[i] && gradients[i].defined()) {
        node->inputs()[i]->accumulate(std::move(gradients[i]), node->op());
      }
    }
    if (!options.retain_graph) node->release();
  }
}

namespace {
std::vector<OpInfo>& op_registry() {
  static std::vector<OpInfo> ops;
  return ops;
}
}  // namespace

bool register_op(OpInfo info) {
  op_registry().push_back(info);
  return true;
}

std::vector<OpInfo> registered_ops() {
  std::vector<OpInfo> ops = op_registry();
  std::ranges::sort(ops, {}, &OpInfo::name);
  return ops;
}

}  // namespace cmir
