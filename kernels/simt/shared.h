// Shared memory of the host model. What CMIR_SHARED declares is no array but a checked view of one:
// every element read or written through it is checked for bounds, for being written before it is
// read, and for races with the block's other threads since the last barrier.
//
// An element is a SharedReference, read by conversion: write `float v = tile[i]`, not `auto`
// (`auto` keeps the reference; using it then does not compile).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "kernels/simt/grid.h"

namespace cmir::kernels::simt {

/// One declaration's part of the block's shared memory.
struct SharedRegion {
  const char* name;
  const void* declaration;
  std::size_t begin;  ///< byte offset in the block's shared memory
  std::size_t bytes;
  std::size_t granule;  ///< bytes that are watched together: 1, 2 or 4
  bool watched;         ///< false once a raw pointer was taken
};

/// The region of a declaration of that many bytes, made when the launch first meets it. The watched
/// granule follows the element size.
SharedRegion& declare_shared(const void* declaration, const char* name, std::size_t bytes,
                             std::size_t element, Location where);
SharedRegion& dynamic_shared(const char* name, std::size_t element);
/// Watches smaller pieces from now on, for a region that is seen as another type.
void refine_granule(SharedRegion& region, std::size_t element);
/// Called at the start of a launch and of each block.
void begin_shared_launch(std::size_t dynamic_bytes);
void begin_shared_block();

/// A position in shared memory; may be out of bounds until it is used.
struct SharedPlace {
  SharedRegion* region;
  std::ptrdiff_t offset;  ///< bytes from the region's begin
  Location where;
};
enum class SharedUse { read, write, atomic };
/// Checks one access and returns the bytes. `element`: what an index in a message counts.
std::byte* use_shared(const SharedPlace& place, std::size_t bytes, SharedUse use,
                      std::size_t element);
/// The bytes without any check from now on.
std::byte* raw_shared(const SharedPlace& place);
/// Marks bytes that an asynchronous copy will write: until finish_write they count as not written.
std::byte* begin_async_write(const SharedPlace& place, std::size_t bytes);
std::byte* finish_async_write(const SharedPlace& place, std::size_t bytes);

/// An index that knows the source line it is used on.
struct SharedIndex {
  std::ptrdiff_t value;
  Location where;
  template <class I>
  requires(std::convertible_to<I, std::ptrdiff_t> && !std::floating_point<std::remove_cvref_t<I>>)
      SharedIndex(I&& index, Location location = Location::current())
      : value(static_cast<std::ptrdiff_t>(std::forward<I>(index))), where(location) {}
};

template <class T>
class SharedReference;

/// A checked T* into shared memory. Under nvcc it is T* itself.
template <class T>
class SharedPointer {
 public:
  using Value = std::remove_const_t<T>;
  explicit SharedPointer(const SharedPlace& place) : place_(place) {}
  /// T* to const T*
  template <class U>
  requires(std::same_as<U, Value> && !std::same_as<U, T>)
      SharedPointer(const SharedPointer<U>& other)
      : place_(other.place()) {}

  SharedReference<T> operator[](SharedIndex i) const {
    return SharedReference<T>(moved(i.value, i.where));
  }
  SharedReference<T> operator*() const { return SharedReference<T>(place_); }
  SharedPointer& operator+=(SharedIndex i) {
    place_ = moved(i.value, i.where);
    return *this;
  }
  SharedPointer& operator-=(SharedIndex i) {
    place_ = moved(-i.value, i.where);
    return *this;
  }
  SharedPointer& operator++() {
    place_ = moved(1, place_.where);
    return *this;
  }
  friend SharedPointer operator+(const SharedPointer& p, SharedIndex i) {
    return SharedPointer(p.moved(i.value, i.where));
  }
  friend SharedPointer operator-(const SharedPointer& p, SharedIndex i) {
    return SharedPointer(p.moved(-i.value, i.where));
  }
  friend std::ptrdiff_t operator-(const SharedPointer& a, const SharedPointer& b) {
    return (a.place_.offset - b.place_.offset) / static_cast<std::ptrdiff_t>(sizeof(T));
  }
  friend bool operator==(const SharedPointer& a, const SharedPointer& b) {
    return a.place_.region == b.place_.region && a.place_.offset == b.place_.offset;
  }

  const SharedPlace& place() const { return place_; }
  /// The raw pointer. The declaration's memory is no longer watched in this block.
  T* data() const { return reinterpret_cast<T*>(raw_shared(place_)); }

 private:
  SharedPlace moved(std::ptrdiff_t elements, const Location& where) const {
    return {place_.region, place_.offset + elements * static_cast<std::ptrdiff_t>(sizeof(T)),
            where};
  }
  SharedPlace place_;
};

/// A checked T& into shared memory, for use in the expression that makes it.
template <class T>
class SharedReference {
 public:
  using Value = std::remove_const_t<T>;
  explicit SharedReference(const SharedPlace& place) : place_(place) {}
  SharedReference(const SharedReference&) = default;

  operator Value() && { return load(); }
  Value operator=(const Value& value) && { return store(value); }
  Value operator=(SharedReference&& other) && { return store(other.load()); }
  Value operator+=(const Value& value) && { return store(static_cast<Value>(load() + value)); }
  Value operator-=(const Value& value) && { return store(static_cast<Value>(load() - value)); }
  Value operator*=(const Value& value) && { return store(static_cast<Value>(load() * value)); }
  Value operator/=(const Value& value) && { return store(static_cast<Value>(load() / value)); }
  Value operator|=(const Value& value) && { return store(static_cast<Value>(load() | value)); }
  Value operator&=(const Value& value) && { return store(static_cast<Value>(load() & value)); }
  Value operator^=(const Value& value) && { return store(static_cast<Value>(load() ^ value)); }
  Value operator++() && { return store(static_cast<Value>(load() + 1)); }
  Value operator++(int) && {
    const Value before = load();
    store(static_cast<Value>(before + 1));
    return before;
  }
  /// float(tile[i]) of an element type with an explicit conversion, such as BFloat16.
  template <class U>
  requires(!std::same_as<U, Value> && !std::convertible_to<Value, U> &&
           std::constructible_from<U, Value>) explicit
  operator U() && {
    return static_cast<U>(load());
  }
  SharedPointer<T> operator&() const { return SharedPointer<T>(place_); }

 private:
  Value load() const {
    Value value;
    std::memcpy(&value, use_shared(place_, sizeof(T), SharedUse::read, sizeof(T)), sizeof(T));
    return value;
  }
  Value store(const Value& value) const {
    std::memcpy(use_shared(place_, sizeof(T), SharedUse::write, sizeof(T)), &value, sizeof(T));
    return value;
  }
  SharedPlace place_;
};

[[noreturn]] void fail_index(const SharedPlace& place, std::ptrdiff_t index, std::size_t extent);

/// A checked T (&)[n]...: each index is checked against its own extent.
template <class Array>
class SharedArray {
  using Row = std::remove_extent_t<Array>;

 public:
  using Element = std::remove_all_extents_t<Array>;
  static_assert(std::is_array_v<Array>, "declare one shared scalar as an array: [1]");
  explicit SharedArray(const SharedPlace& place) : place_(place) {}

  auto operator[](SharedIndex i) const {
    if (i.value < 0 || i.value >= static_cast<std::ptrdiff_t>(std::extent_v<Array>)) {
      fail_index({place_.region, place_.offset, i.where}, i.value, std::extent_v<Array>);
    }
    const SharedPlace place{
        place_.region, place_.offset + i.value * static_cast<std::ptrdiff_t>(sizeof(Row)), i.where};
    if constexpr (std::is_array_v<Row>) {
      return SharedArray<Row>(place);
    } else {
      return SharedReference<Row>(place);
    }
  }
  /// A row decays to a pointer as an array does.
  operator SharedPointer<Element>() const requires(std::rank_v<Array> == 1) {
    return SharedPointer<Element>(place_);
  }
  friend SharedPointer<Element> operator+(const SharedArray& row,
                                          SharedIndex i) requires(std::rank_v<Array> == 1) {
    return SharedPointer<Element>(row.place_) + i;
  }
  /// The first element as a raw pointer. The memory is no longer watched in this block.
  Element* data() const { return reinterpret_cast<Element*>(raw_shared(place_)); }
  SharedPointer<Element> first() const { return SharedPointer<Element>(place_); }

 private:
  SharedPlace place_;
};

/// What CMIR_SHARED makes: a static object whose address is the declaration's identity.
template <class Array>
struct SharedDeclaration {
  const char* name;
  SharedArray<Array> here(Location where = Location::current()) const {
    return SharedArray<Array>({&declare_shared(this, name, sizeof(Array),
                                               sizeof(std::remove_all_extents_t<Array>), where),
                               0, where});
  }
};

template <class T>
SharedPointer<T> dynamic_shared_pointer(const char* name, Location where = Location::current()) {
  return SharedPointer<T>({&dynamic_shared(name, sizeof(T)), 0, where});
}

}  // namespace cmir::kernels::simt
