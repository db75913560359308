// Loads and stores of up to 16 bytes. Included by kernels/cuda/device.h.
#pragma once

namespace cmir::kernels::CMIR_DEVICE {

/// N values that move as one.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  static_assert(sizeof(T) * N <= 16 && (N & (N - 1)) == 0);
  T values[N];

  CMIR_HOST_DEVICE T& operator[](int i) { return values[i]; }
  CMIR_HOST_DEVICE const T& operator[](int i) const { return values[i]; }
};

/// Values of T in 16 bytes.
template <class T>
inline constexpr int kVectorSize = 16 / static_cast<int>(sizeof(T));

/// Whether vectors of N can be loaded from here.
template <int N, class T>
CMIR_HOST_DEVICE bool is_vector_aligned(const T* place) {
  return reinterpret_cast<std::uintptr_t>(place) % (sizeof(T) * N) == 0;
}

#if defined(__CUDACC__)

/// The N values at `place`, which must be a multiple of their size.
template <class T, int N>
__device__ Vector<T, N> load_vector(const T* place) {
  return *reinterpret_cast<const Vector<T, N>*>(place);
}
template <class T, int N>
__device__ void store_vector(T* place, const Vector<T, N>& vector) {
  *reinterpret_cast<Vector<T, N>*>(place) = vector;
}

#else

namespace detail {
template <int N, class T>
void check_aligned(const T* place, Location where) {
  if (is_vector_aligned<N>(place)) return;
  fault(where, fmt::format("a vector of {} bytes at a misaligned address", sizeof(T) * N));
}
}  // namespace detail

template <class T, int N>
Vector<T, N> load_vector(const T* place, Location where = Location::current()) {
  detail::check_aligned<N>(place, where);
  Vector<T, N> vector;
  for (int i = 0; i < N; ++i) vector[i] = place[i];
  return vector;
}
template <class T, int N>
void store_vector(T* place, const Vector<T, N>& vector, Location where = Location::current()) {
  detail::check_aligned<N>(place, where);
  for (int i = 0; i < N; ++i) place[i] = vector[i];
}
template <class T, int N>
Vector<T, N> load_vector(const SharedPointer<T>& place, Location where = Location::current()) {
  Vector<T, N> vector;
  std::memcpy(&vector,
              use_shared({place.place().region, place.place().offset, where}, sizeof(vector),
                         SharedUse::read, sizeof(T)),
              sizeof(vector));
  return vector;
}
template <class T, int N>
void store_vector(const SharedPointer<T>& place, const Vector<T, N>& vector,
                  Location where = Location::current()) {
  std::memcpy(use_shared({place.place().region, place.place().offset, where}, sizeof(vector),
                         SharedUse::write, sizeof(T)),
              &vector, sizeof(vector));
}

#endif

}  // namespace cmir::kernels::CMIR_DEVICE
