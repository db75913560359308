// Reverse-mode automatic differentiation: the tape.
//
// A Variable is a value and, if a gradient flows through it, the Node that receives that gradient.
// An op (see apply_op) computes the value from the inputs' values and hangs a new Node on the
// inputs' nodes. backward() walks the nodes from the last made to the first, so that a node has
// received all of its gradient before it passes it on. Nothing here knows any op.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/range.h"
#include "core/tensor.h"
#include "core/trace_span.h"

namespace cmir {

/// What an op's forward keeps for its backward: tensors, and which inputs need a gradient.
class OpContext {
 public:
  explicit OpContext(std::vector<bool> needs_gradient = {}) : needs_(std::move(needs_gradient)) {}

  /// False under no-grad or when no input needs a gradient: forward may then skip saving.
  bool recording() const;
  bool needs_gradient(std::size_t input) const { return needs_.at(input); }
  void save(Tensor tensor) {
    const auto version = tensor.version();
    saved_.push_back({std::move(tensor), version});
  }
  /// Saved tensor `i`. Throws if it was written to since, or if the graph was freed.
  const Tensor& saved(std::size_t i) const;
  void release() {
    saved_.clear();
    released_ = true;
  }
  bool released() const { return released_; }

 private:
  struct Saved {
    Tensor tensor;
    std::uint64_t version;
  };
  std::vector<bool> needs_;
  std::vector<Saved> saved_;
  bool released_ = false;
};

/// One gradient per input, in order; an undefined Tensor where the input needs none.
using Gradients = std::vector<Tensor>;
/// Sees, and may replace (by returning a defined tensor), a gradient.
using GradientHook = std::function<Tensor(const Tensor&)>;

class Node {
 public:
  /// A node for a value of the given shape; `op` names what made it ("leaf" for a parameter).
  Node(std::string_view op, const Tensor& value, std::vector<std::shared_ptr<Node>> inputs);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  virtual ~Node();

  bool is_leaf() const { return inputs_.empty(); }
  std::string_view op() const { return op_; }
  const std::vector<std::shared_ptr<Node>>& inputs() const { return inputs_; }  // null: needs none
  std::uint64_t order() const { return order_; }

  /// Leaf: the sum over all backward() calls since the last reset. Interior: undefined.
  Tensor gradient;
  /// What has arrived during the backward() that is running.
  Tensor incoming;
  std::vector<GradientHook> hooks;

  /// Adds what the op `from` sends to `incoming`, after checking shape and dtype: the one place
  /// where gradients meet.
  void accumulate(Tensor sent, std::string_view from);
  /// The inputs' gradients from this node's gradient.
  virtual Gradients backward(const Tensor& output_gradient);
  virtual void release() {}

 private:
  std::string_view op_;
  Shape shape_;
  DType dtype_;
  std::vector<std::shared_ptr<Node>> inputs_;
  std::uint64_t order_;
};

class Variable {
 public:
  Variable() = default;
  /// A leaf. With `requires_gradient`, backward() leaves its gradient in gradient().
  explicit Variable(Tensor value, bool requires_gradient = false);
  Variable(Tensor value, std::shared_ptr<Node> node)
      : value_(std::move(value)), node_(std::move(node)) {}

  const Tensor& value() const { return value_; }
  /// For optimizers and initialisation: the tensor to write to (through Tensor::mutable_data).
  Tensor& mutable_value() { return value_; }
  const Shape& shape() const { return value_.shape(); }
  DType dtype() const { return value_.dtype(); }
  Device device() const { return value_.device(); }
  bool defined() const { return value_.defined(); }

  bool requires_gradient() const { return node_ != nullptr; }
  /// Undefined before the first backward() and after clear_gradient().
  Tensor gradient() const { return node_ ? node_->gradient : Tensor(); }
  void clear_gradient() {
    if (node_) node_->gradient = Tensor();
  }
  /// The same value, cut off from the tape.
  Variable detach() const { return Variable(value_); }
  /// Calls `hook` with this variable's gradient in each backward(), when it is complete and before
  /// it is passed on (or, for a leaf, added to gradient()).
  void add_hook(GradientHook hook);
  const std::shared_ptr<Node>& node() const { return node_; }

 private:
  Tensor value_;
  std::shared_ptr<Node> node_;
};

/// While alive, ops on this thread record nothing.
class NoGradScope {
 public:
  NoGradScope();
  ~NoGradScope();
  NoGradScope(const NoGradScope&) = delete;
  NoGradScope& operator=(const NoGradScope&) = delete;

 private:
  bool previous_;
};
bool gradients_enabled();

struct BackwardOptions {
  /// d(objective)/d(root); may be left undefined for a single-element root, and is then 1.
  Tensor seed;
  /// Keep saved tensors, so that backward() can run again over the same graph.
  bool retain_graph = false;
};
/// Adds d(root . seed)/d(leaf) to every leaf that root depends on. If it throws, some leaves may
/// have received their part.
void backward(const Variable& root, const BackwardOptions& options = {});

// ---- Ops
// --------------------------------------------------------------------------------------------------------
//
// An op is a struct: its members are its attributes, and it has
//   static constexpr std::string_view name;
//   Tensor forward(OpContext& context, std::span<const Tensor> inputs) const;
//   Gradients backward(const OpContext& context, const Tensor& output_gradient) const;
//     or, for an op that adds to its first input's gradient while it computes its own part,
//   Gradients backward(const OpContext& context, const Tensor& output_gradient, Tensor arrived)
//   const;
//     `arrived` is what that input has received so far from others, or undefined; the gradient
//     returned for it must include that. It may be written to where it is unique().
//   static std::vector<GradientCase> gradient_cases();       // autograd/gradcheck.h; returned, not
//   defined, in headers
// Ops have one output; record_op says what a function with two does. Using an op anywhere registers
// it, so that a test can find any op whose cases are missing.

struct GradientCase;
struct OpInfo {
  std::string_view name;
  std::vector<GradientCase> (*gradient_cases)();
};
/// Every op that apply_op() is instantiated for in this program, sorted by name.
std::vector<OpInfo> registered_ops();
bool register_op(OpInfo info);
template <class Op>
inline const bool registered_op = register_op({Op::name, &Op::gradient_cases});

template <class Op>
class OpNode final : public Node {
 public:
  OpNode(Op op, OpContext context, const Tensor& value, std::vector<std::shared_ptr<Node>> inputs)
      : Node(Op::name, value, std::move(inputs)),
        op_(std::move(op)),
        context_(std::move(context)) {}
  Gradients backward(const Tensor& output_gradient) override {
    require(!context_.released(), Op::name,
            "its graph was already used by backward(), which freed what forward saved; run forward "
            "again, or pass retain_graph = true to the first backward()");
    const Range range(Op::name);
    const TraceSpan span(TraceKind::op, Op::name.data());
    if constexpr (requires { op_.backward(context_, output_gradient, Tensor()); }) {
      Node* input = inputs()[0].get();
      return op_.backward(context_, output_gradient,
                          input != nullptr ? std::exchange(input->incoming, Tensor()) : Tensor());
    } else {
      return op_.backward(context_, output_gradient);
    }
  }
  void release() override { context_.release(); }

 private:
  Op op_;
  OpContext context_;
};

/// Error, naming both, unless all floating inputs are on one device (integer ones stay on the CPU,
/// see Tensor::on).
void check_one_device(std::string_view op, std::span<const Tensor> inputs);

/// The context of an op with these inputs: it records if one needs a gradient and no NoGradScope is
/// alive.
OpContext context_of(std::span<const Variable> inputs);

/// The result `value` of an op on these inputs, recorded if `context` (context_of(inputs), with
/// what backward needs) records. For functions that compute the values of several ops in one
/// kernel, since an op has one output; such an op needs no forward.
template <class Op>
Variable record_op(Op op, OpContext context, Tensor value, std::span<const Variable> inputs) {
  (void)registered_op<Op>;
  if (!context.recording()) return Variable(std::move(value));
  std::vector<std::shared_ptr<Node>> nodes;
  for (const Variable& input : inputs) nodes.push_back(input.node());
  auto node =
      std::make_shared<OpNode<Op>>(std::move(op), std::move(context), value, std::move(nodes));
  return Variable(std::move(value), std::move(node));
}

/// Runs the op forward and, if an input needs a gradient and no NoGradScope is alive, records it.
template <class Op>
Variable apply_op(Op op, std::span<const Variable> inputs) {
  std::vector<Tensor> values;
  for (const Variable& input : inputs) values.push_back(input.value());
  check_one_device(Op::name, values);
  OpContext context = context_of(inputs);
  Tensor value = [&] {
    const Range range(Op::name);
    const TraceSpan span(TraceKind::op, Op::name.data());
    return op.forward(context, values);
  }();
  return record_op(std::move(op), std::move(context), std::move(value), inputs);
}
template <class Op>
Variable apply_op(Op op, std::initializer_list<Variable> inputs) {
  return apply_op(std::move(op), std::span<const Variable>(inputs.begin(), inputs.size()));
}

}  // namespace cmir
