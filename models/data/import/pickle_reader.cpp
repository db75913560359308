// The opcode machine's loop, bytes, stack and memo. Opcodes as in Python's pickletools.py.
#include "models/data/import/pickle_reader.h"

#include "core/formats/file.h"

namespace cmir::pickle {
namespace {

/// Names of opcodes that Python knows and this reader refuses.
std::string_view refused_name(std::uint8_t op) {
  switch (op) {
    case 'P':
      return "PERSID";
    case 'Q':
      return "BINPERSID";
    case 'i':
      return "INST";
    case 'o':
      return "OBJ";
    case 0x82:
    case 0x83:
    case 0x84:
      return "EXT";
    case 0x92:
      return "NEWOBJ_EX";
    case 0x97:
      return "NEXT_BUFFER";
    default:
      return "unknown";
  }
}

}  // namespace

Value Reader::run() {
  if (bytes_.starts_with("version https://git-lfs")) {
    bad("a git-lfs pointer, not the file itself; fetch it with `git lfs pull`");
  }
  for (;;) {
    at_ = position_;
    const std::uint8_t op = little<std::uint8_t>();
    if (op == '.') break;
    if (!(number(op) || text(op) || container(op) || stack_or_memo(op) || object(op))) {
      bad("opcode 0x{:02x} ({}) is not among those that a data file needs{}", op, refused_name(op),
          at_ == 0 ? "; the file is not a pickle" : "");
    }
  }
  const Value root = pop();
  if (!stack_.empty() || !marks_.empty()) bad("{} values are left over at the end", stack_.size());
  if (position_ != bytes_.size()) {
    bad("{} bytes follow the end of the pickle; one object per file is read",
        bytes_.size() - position_);
  }
  check_tree(root);
  return root;
}

std::string_view Reader::take(std::uint64_t count) {
  if (count > bytes_.size() - position_) {
    bad("{} bytes are needed and {} are left: the file is truncated or not a pickle", count,
        bytes_.size() - position_);
  }
  const std::string_view part = bytes_.substr(position_, count);
  position_ += count;
  return part;
}

std::string_view Reader::line() {
  const std::size_t end = bytes_.find('\n', position_);
  if (end == std::string_view::npos) bad("a line without an end: the file is truncated");
  const std::string_view text = take(end - position_);
  ++position_;
  return text.ends_with('\r') ? text.substr(0, text.size() - 1) : text;
}

Value Reader::pop() {
  const std::size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor) bad("a value is taken from an empty stack");
  const Value value = stack_.back();
  stack_.pop_back();
  return value;
}

Value Reader::top() {
  const Value value = pop();
  push(value);
  return value;
}

std::vector<Value> Reader::pop_mark() {
  if (marks_.empty()) bad("there is no mark on the stack");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<Value> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

bool Reader::stack_or_memo(std::uint8_t op) {
  switch (op) {
    case 0x80:  // PROTO
      if (const int protocol = little<std::uint8_t>(); protocol > 5) {
        bad("protocol {} is newer than 5", protocol);
      }
      return true;
    case 0x95:  // FRAME
      if (const auto length = little<std::uint64_t>(); length > bytes_.size() - position_) {
        bad("a frame of {} bytes where {} are left: the file is truncated", length,
            bytes_.size() - position_);
      }
      return true;
    case '(':
      marks_.push_back(stack_.size());
      return true;
    case '0':  // POP, of a value or of a mark
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case '1':  // POP_MARK
      pop_mark();
      return true;
    case '2':  // DUP
      push(top());
      return true;
    case 0x94:  // MEMOIZE
      put(memo_.size());
      return true;
    case 'p':
      put(parsed<std::uint64_t>(line()));
      return true;
    case 'q':
      put(little<std::uint8_t>());
      return true;
    case 'r':
      put(little<std::uint32_t>());
      return true;
    case 'g':
      get(parsed<std::uint64_t>(line()));
      return true;
    case 'h':
      get(little<std::uint8_t>());
      return true;
    case 'j':
      get(little<std::uint32_t>());
      return true;
    default:
      return false;
  }
}

void Reader::put(std::uint64_t index) {
  // Python numbers memo entries from 0, so an index beyond the bytes read so far was not written by
  // it.
  if (index > position_) bad("memo entry {} is out of order", index);
  if (index >= memo_.size()) memo_.resize(index + 1);
  memo_[index] = top();
}

void Reader::get(std::uint64_t index) {
  if (index >= memo_.size() || !memo_[index]) bad("memo entry {} does not exist", index);
  push(*memo_[index]);
}

Document::Document() : objects_(std::make_unique<Objects>()) {}
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;
Document::~Document() = default;

Document Document::parse(std::string_view bytes, std::string_view name,
                         std::shared_ptr<const void> owner) {
  Document document;
  document.owner_ = std::move(owner);
  document.bytes_ = bytes.size();
  document.root_ = Reader(document, bytes, name).run();
  return document;
}

Document Document::open(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string(), file);
}

}  // namespace cmir::pickle
