// What all handlers share: threads, memory for temporaries, and the types of arrays.
//
// Work is divided by images or by rows: each thread of XLA's own pool runs
// single-threaded code on its share of the batch, so that no second pool of threads
// competes for the cores. The shares depend on the shapes and on the size of the pool
// alone, and sums over them are taken in order: the same call gives the same bits.

#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace onednn_jax {

namespace ffi = xla::ffi;
using Array = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;
using Numbers = ffi::Span<const int64_t>;

// ---------------------------------------------------------------------------------
// Threads

// Makes oneDNN's OpenMP build run on the calling thread alone.
class SingleThreaded {
 public:
  SingleThreaded() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SingleThreaded() { omp_set_num_threads(before_); }
  SingleThreaded(const SingleThreaded&) = delete;

 private:
  int before_;
};

// Calls body(0) ... body(count - 1) on the threads of the pool and on this one, which
// claim indices one by one: nothing ever waits for a task that has not begun, even if
// every thread of the pool is in here itself. A task that begins after the last index is
// claimed never touches `body`, which may be gone by then.
inline void Parallel(ffi::ThreadPool& pool, int count, const std::function<void(int)>& body) {
  struct Loop {
    std::atomic<int> next{0}, done{0};
    int count;
    const std::function<void(int)>* body;
    std::mutex mutex;
    std::exception_ptr error;

    void Work() {
      SingleThreaded alone;
      for (int i; (i = next.fetch_add(1)) < count;) {
        try {
          (*body)(i);
        } catch (...) {
          std::lock_guard<std::mutex> lock(mutex);
          if (!error) error = std::current_exception();
        }
        if (done.fetch_add(1) + 1 == count) done.notify_all();
      }
    }
  };
  auto loop = std::make_shared<Loop>();  // outlives late tasks, which find no work
  loop->count = count;
  loop->body = &body;
  try {
    for (int i = 1; i < count; ++i) pool.Schedule([loop] { loop->Work(); });
  } catch (const std::bad_alloc&) {
    // Those that are scheduled may be at work already: go on with fewer.
  }
  loop->Work();
  for (int spins = 0; spins < 200 && loop->done.load() < count; ++spins)
    std::this_thread::yield();
  for (int done; (done = loop->done.load()) < count;) loop->done.wait(done);
  if (loop->error) std::rethrow_exception(loop->error);
}

// How a batch is divided. `work` is its multiplications, of which a share should have
// enough to be worth waking a thread for; `most` limits the number of shares further.
struct Shares {
  int64_t batch;
  int count;

  Shares(ffi::ThreadPool& pool, int64_t batch, int64_t work, int64_t most = INT_MAX)
      : batch(batch) {
    // The size of the pool is 0 if XLA does not know it.
    most = std::min({pool.num_threads(), batch, work / 200'000, most});
    count = static_cast<int>(std::max<int64_t>(most, 1));
  }
  int64_t first(int i) const { return batch * i / count; }
  int64_t size(int i) const { return first(i + 1) - first(i); }
};

// ---------------------------------------------------------------------------------
// Memory

// Memory for temporaries, kept for later calls. There are never more blocks than were in
// use at one time: if all that are kept are too small, a larger one replaces one of them.
class Buffer {
 public:
  explicit Buffer(size_t size) {
    if (size == 0) return;
    {
      std::lock_guard<std::mutex> lock(Mutex());
      Blocks& kept = Kept();
      auto found = kept.lower_bound(size);
      if (found == kept.end() && !kept.empty()) --found;
      if (found != kept.end()) block_ = kept.extract(found);
    }
    if (block_ && block_.key() >= size) return;
    block_ = {};
    size = (size + 4095) / 4096 * 4096;
    Blocks made;
    made.emplace(size, Block(std::aligned_alloc(64, size)));
    block_ = made.extract(made.begin());
    if (data() == nullptr) throw std::bad_alloc();
  }
  ~Buffer() {
    if (data() == nullptr) return;
    std::lock_guard<std::mutex> lock(Mutex());
    Kept().insert(std::move(block_));  // moves a node: nothing to allocate, nor to fail
  }
  Buffer(const Buffer&) = delete;
  void* data() const { return block_ ? block_.mapped().get() : nullptr; }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  using Block = std::unique_ptr<void, Free>;
  using Blocks = std::multimap<size_t, Block>;

  static std::mutex& Mutex() {
    static auto* mutex = new std::mutex;
    return *mutex;
  }
  static Blocks& Kept() {
    static auto* kept = new Blocks;
    return *kept;
  }
  Blocks::node_type block_;
};

// ---------------------------------------------------------------------------------
// Arrays

// Their elements are float, or uint16_t for bfloat16, which has the upper half of a
// float's bits.
inline float Value(float x) { return x; }
inline float Value(uint16_t x) { return std::bit_cast<float>(uint32_t{x} << 16); }

// Rounds to the nearest, ties to even.
inline void Set(float& to, float x) { to = x; }
inline void Set(uint16_t& to, float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  to = x == x ? rounded : bits >> 16 | 0x40;  // a NaN stays one
}

// Calls use(a number of the array's type).
template <typename F>
void WithType(const Array& array, F&& use) {
  if (array.element_type() == ffi::DataType::F32)
    use(float{});
  else if (array.element_type() == ffi::DataType::BF16)
    use(uint16_t{});
  else
    throw std::invalid_argument("arrays must be float32 or bfloat16");
}

template <typename T>
T* Data(const Array& array) {
  return static_cast<T*>(array.untyped_data());
}

// Calls a function whose code is also compiled for wider vectors; the loader picks the
// version for the processor.
#ifdef __x86_64__
#define FOR_EVERY_PROCESSOR \
  __attribute__((target_clones("arch=x86-64-v4", "avx2", "default"), flatten))
#else
#define FOR_EVERY_PROCESSOR
#endif

template <typename F>
ffi::Error Guard(F&& run) {
  try {
    run();
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
}

}  // namespace onednn_jax

#define EXPORTED extern "C" __attribute__((visibility("default")))
