// XLA FFI handlers that compute convolutions with oneDNN, and max pools to go with them.
//
// Images are NHWC, kernels HWIO, strides 1. Work is divided by images: each thread of
// XLA's own pool runs a single-threaded oneDNN primitive on its share of the batch, so
// that no second pool of threads competes for the cores. The shares depend on the shapes
// and on the size of the pool alone, and sums over them are taken in order: the same
// call gives the same bits.
//
// Kernels are brought to the layout that oneDNN prefers, and back, in every call.
//
// A NaN goes through everything here. oneDNN's own ReLU makes 0 of it and its max pool
// the lowest number, which would hide that a training has diverged: ReLU and pools are
// written out below.

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
#include <unordered_map>
#include <utility>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using Dims = memory::dims;
using Tag = memory::format_tag;
using Type = memory::data_type;
using Arguments = std::unordered_map<int, memory>;
using Pads = ffi::Span<const int64_t>;  // top, bottom, left, right

namespace {

dnnl::engine& Engine() {
  static auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

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
void Parallel(ffi::ThreadPool& pool, int count, const std::function<void(int)>& body) {
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

memory At(const memory::desc& desc, const void* data) {
  return memory(desc, Engine(), const_cast<void*>(data));
}

// The images from `first` on, of an array of images of `desc`'s height, width, channels.
memory Images(const memory::desc& desc, const void* data, int64_t first) {
  Dims dims = desc.get_dims();
  int64_t bytes = memory::data_type_size(desc.get_data_type());
  for (size_t axis = 1; axis < dims.size(); ++axis) bytes *= dims[axis];
  return At(desc, static_cast<const char*>(data) + first * bytes);
}

// ---------------------------------------------------------------------------------
// Primitives

struct Primitive {
  dnnl::primitive primitive;
  memory::desc scratch;

  void Run(Arguments arguments) const {
    Buffer space(scratch.get_size());
    arguments[DNNL_ARG_SCRATCHPAD] = At(scratch, space.data());
    dnnl::stream stream(Engine());
    primitive.execute(stream, arguments);
    stream.wait();
  }
};

dnnl::primitive_attr Attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

Type TypeOf(const ffi::AnyBuffer& buffer) {
  if (buffer.element_type() == ffi::DataType::F32) return Type::f32;
  if (buffer.element_type() == ffi::DataType::BF16) return Type::bf16;
  throw std::invalid_argument("arrays must be float32 or bfloat16");
}

// NHWC or HWIO, in the order in which oneDNN names axes: NCHW, OIHW.
Dims ImageDims(const ffi::AnyBuffer& b) {
  auto d = b.dimensions();
  if (d.size() != 4) throw std::invalid_argument("images must have 4 axes");
  return {d[0], d[3], d[1], d[2]};
}
Dims KernelDims(const ffi::AnyBuffer& b) {
  auto d = b.dimensions();
  if (d.size() != 4) throw std::invalid_argument("kernels must have 4 axes");
  return {d[3], d[2], d[0], d[1]};
}
memory::desc Nhwc(Dims dims, Type type) { return {dims, type, Tag::nhwc}; }

int64_t Product(const Dims& dims) {
  int64_t product = 1;
  for (int64_t size : dims) product *= size;
  return product;
}

// ---------------------------------------------------------------------------------
// Convolution

struct Shape {
  Dims images, kernel, out, before, after;
  Type type;

  Shape(Dims images, Dims kernel, Dims out, Pads pads, Type type)
      : images(images), kernel(kernel), out(out), type(type) {
    if (pads.size() != 4) throw std::invalid_argument("4 pads are needed");
    before = {pads[0], pads[2]};
    after = {pads[1], pads[3]};
  }
  int64_t batch() const { return images[0]; }
  int64_t pixels() const { return out[0] * out[2] * out[3]; }
  int64_t work() const { return pixels() * Product(kernel); }
  // The same for a share of the batch.
  Shape With(int64_t batch) const {
    Shape shape = *this;
    shape.images[0] = shape.out[0] = batch;
    return shape;
  }
  std::vector<int64_t> Key(int64_t kind) const {
    std::vector<int64_t> key{kind, static_cast<int64_t>(type)};
    for (auto* dims : {&images, &kernel, &out, &before, &after})
      key.insert(key.end(), dims->begin(), dims->end());
    return key;
  }
  memory::desc ImagesDesc() const { return Nhwc(images, type); }
  memory::desc OutDesc() const { return Nhwc(out, type); }
  memory::desc AnyKernel(Type t) const { return {kernel, t, Tag::any}; }
  memory::desc Bias() const { return {{kernel[0]}, Type::f32, Tag::a}; }
  memory::desc Hwio(Type t) const { return {kernel, t, Tag::hwio}; }
};

constexpr auto kDirect = dnnl::algorithm::convolution_direct;
const Dims kOnes{1, 1};

struct Conv {
  Primitive conv, reorder;
  memory::desc kernel;  // as oneDNN wants it
};

// The primitive of each kind and shape, once made, for the life of the process.
const Conv& Find(const std::vector<int64_t>& key, const std::function<Conv()>& make) {
  static auto* mutex = new std::mutex;
  static auto* all = new std::map<std::vector<int64_t>, std::unique_ptr<Conv>>;
  std::lock_guard<std::mutex> lock(*mutex);
  auto& made = (*all)[key];
  if (!made) made = std::make_unique<Conv>(make());
  return *made;
}

Primitive MakeReorder(const memory::desc& from, const memory::desc& to) {
  if (from == to) return {};
  auto pd = dnnl::reorder::primitive_desc(Engine(), from, Engine(), to, Attributes());
  return {dnnl::reorder(pd), pd.scratchpad_desc()};
}

dnnl::convolution_forward::primitive_desc DescribeForward(const Shape& s) {
  return {Engine(),
          dnnl::prop_kind::forward_training,
          kDirect,
          s.ImagesDesc(),
          s.AnyKernel(s.type),
          s.Bias(),
          s.OutDesc(),
          kOnes,
          s.before,
          s.after,
          Attributes()};
}

Conv MakeForward(const Shape& s) {
  auto pd = DescribeForward(s);
  return {{dnnl::convolution_forward(pd), pd.scratchpad_desc()},
          MakeReorder(s.Hwio(s.type), pd.weights_desc()),
          pd.weights_desc()};
}

Conv MakeBackwardImages(const Shape& s) {
  dnnl::convolution_backward_data::primitive_desc pd(
      Engine(), kDirect, s.ImagesDesc(), s.AnyKernel(s.type), s.OutDesc(), kOnes,
      s.before, s.after, DescribeForward(s), Attributes());
  return {{dnnl::convolution_backward_data(pd), pd.scratchpad_desc()},
          MakeReorder(s.Hwio(s.type), pd.weights_desc()),
          pd.weights_desc()};
}

// The kernel's gradient is float32, whatever the images are.
Conv MakeBackwardKernel(const Shape& s) {
  dnnl::convolution_backward_weights::primitive_desc pd(
      Engine(), kDirect, s.ImagesDesc(), s.AnyKernel(Type::f32), s.Bias(), s.OutDesc(),
      kOnes, s.before, s.after, DescribeForward(s), Attributes());
  return {{dnnl::convolution_backward_weights(pd), pd.scratchpad_desc()},
          MakeReorder(pd.diff_weights_desc(), s.Hwio(Type::f32)),
          pd.diff_weights_desc()};
}

// Negative numbers become 0, a NaN stays one.
void Relu(Type type, void* data, int64_t count) {
  if (type == Type::f32) {
    auto* x = static_cast<float*>(data);
    for (int64_t k = 0; k < count; ++k) x[k] = x[k] < 0 ? 0 : x[k];
  } else {
    // The bits of a bfloat16: -0 to -infinity are 0x8000 to 0xff80.
    auto* x = static_cast<uint16_t*>(data);
    for (int64_t k = 0; k < count; ++k)
      x[k] = x[k] >= 0x8000 && x[k] <= 0xff80 ? 0 : x[k];
  }
}

// Forward, and backward to the images: one array of images becomes another, by a kernel.
void Convolve(ffi::ThreadPool& pool, const Shape& s, bool forward, const void* from,
              const void* kernel, const void* bias, void* to, bool relu = false) {
  if (s.batch() == 0) return;
  Shares shares(pool, s.batch(), s.work());
  Parallel(pool, shares.count, [&](int i) {
    Shape share = s.With(shares.size(i));
    const Conv& made = Find(share.Key(forward ? 0 : 1), [&] {
      return forward ? MakeForward(share) : MakeBackwardImages(share);
    });
    memory plain = At(s.Hwio(s.type), kernel), ready = plain;
    Buffer space(made.reorder.primitive ? made.kernel.get_size() : 0);
    if (made.reorder.primitive) {
      ready = At(made.kernel, space.data());
      made.reorder.Run({{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, ready}});
    }
    memory images = Images(share.ImagesDesc(), forward ? from : to, shares.first(i));
    memory out = Images(share.OutDesc(), forward ? to : from, shares.first(i));
    if (forward) {
      made.conv.Run({{DNNL_ARG_SRC, images},
                     {DNNL_ARG_WEIGHTS, ready},
                     {DNNL_ARG_BIAS, At(s.Bias(), bias)},
                     {DNNL_ARG_DST, out}});
      if (relu) Relu(s.type, out.get_data_handle(), Product(share.out));
    } else {
      made.conv.Run({{DNNL_ARG_DIFF_SRC, images},
                     {DNNL_ARG_WEIGHTS, ready},
                     {DNNL_ARG_DIFF_DST, out}});
    }
  });
}

void ConvolveKernel(ffi::ThreadPool& pool, const Shape& s, const void* images,
                    const void* out, float* kernel, float* bias) {
  const size_t size = Product(s.kernel), channels = s.kernel[0];
  if (s.batch() == 0) {
    std::fill_n(kernel, size, 0.f);
    std::fill_n(bias, channels, 0.f);
    return;
  }
  // Every share has a sum as large as the kernel. Below some 64 pixels, adding it to the
  // others takes longer than computing it; and with many threads they fill the memory.
  Shares shares(pool, s.batch(), s.work(), s.pixels() / 64);
  // The first share's sums stand where the results are wanted.
  Buffer space((shares.count - 1) * (size + channels) * sizeof(float));
  auto* others = static_cast<float*>(space.data());
  auto sums = [&](int i) { return i ? others + (i - 1) * (size + channels) : kernel; };
  auto biases = [&](int i) { return i ? sums(i) + size : bias; };
  Parallel(pool, shares.count, [&](int i) {
    Shape share = s.With(shares.size(i));
    const Conv& made = Find(share.Key(2), [&] { return MakeBackwardKernel(share); });
    memory plain = At(s.Hwio(Type::f32), sums(i)), sum = plain;
    Buffer space(made.reorder.primitive ? made.kernel.get_size() : 0);
    if (made.reorder.primitive) sum = At(made.kernel, space.data());
    made.conv.Run({{DNNL_ARG_SRC, Images(share.ImagesDesc(), images, shares.first(i))},
                   {DNNL_ARG_DIFF_DST, Images(share.OutDesc(), out, shares.first(i))},
                   {DNNL_ARG_DIFF_WEIGHTS, sum},
                   {DNNL_ARG_DIFF_BIAS, At(s.Bias(), biases(i))}});
    if (made.reorder.primitive)
      made.reorder.Run({{DNNL_ARG_FROM, sum}, {DNNL_ARG_TO, plain}});
  });
  for (int i = 1; i < shares.count; ++i)
    for (size_t k = 0; k < channels; ++k) bias[k] += biases(i)[k];
  if (shares.count == 1) return;
  const int parts = size > 50'000 ? shares.count : 1;
  Parallel(pool, parts, [&](int part) {
    for (int i = 1; i < shares.count; ++i)
      for (size_t k = size * part / parts; k < size * (part + 1) / parts; ++k)
        kernel[k] += sums(i)[k];
  });
}

// ---------------------------------------------------------------------------------
// Max pool

float Value(float x) { return x; }
float Value(uint16_t x) { return std::bit_cast<float>(uint32_t{x} << 16); }  // bfloat16

// Calls use(first channel of the window in images, first channel in out) for every window.
// Windows are numbered by the image, row, and column of the output.
struct Windows {
  Dims images, out;
  int64_t size;

  int64_t channels() const { return images[1]; }
  int64_t row() const { return images[3] * channels(); }  // from one row to the next
  int64_t image() const { return images[2] * row(); }

  template <typename F>
  void Each(int64_t first, int64_t count, F&& use) const {
    for (int64_t n = first; n < first + count; ++n)
      for (int64_t y = 0; y < out[2]; ++y)
        for (int64_t x = 0; x < out[3]; ++x)
          use(n * image() + (y * row() + x * channels()) * size,
              ((n * out[2] + y) * out[3] + x) * channels());
  }
};

// The largest of every window and which it was; of equal ones the first. A NaN is larger
// than every number. Channels are innermost, for the compiler to take many at a time.
template <typename T>
void PoolForward(const Windows& w, int64_t first, int64_t count, const T* images, T* out,
                 uint8_t* where) {
  const int64_t channels = w.channels(), row = w.row();
  w.Each(first, count, [&](int64_t from, int64_t to) {
    T* __restrict largest = out + to;
    uint8_t* __restrict index = where + to;
    std::copy_n(images + from, channels, largest);
    std::fill_n(index, channels, 0);
    for (int k = 1; k < w.size * w.size; ++k) {
      const T* __restrict next = images + from + k / w.size * row + k % w.size * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const T old = largest[c], other = next[c];
        const uint8_t before = index[c], now = k;
        const bool keep = (Value(other) <= Value(old)) | (Value(old) != Value(old));
        largest[c] = keep ? old : other;
        index[c] = keep ? before : now;
      }
    }
  });
}

template <typename T>
void PoolBackward(const Windows& w, int64_t first, int64_t count, const T* out,
                  const uint8_t* where, T* images) {
  const int64_t channels = w.channels(), row = w.row();
  const bool whole = w.images[2] % w.size == 0 && w.images[3] % w.size == 0;
  if (!whole) std::fill_n(images + first * w.image(), count * w.image(), T{});
  w.Each(first, count, [&](int64_t to, int64_t from) {
    const T* __restrict gradient = out + from;
    const uint8_t* __restrict index = where + from;
    for (int k = 0; k < w.size * w.size; ++k) {
      T* __restrict next = images + to + k / w.size * row + k % w.size * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const T value = gradient[c];
        next[c] = index[c] == k ? value : T{};
      }
    }
  });
}

// The same with wider vectors, where the processor has them: the loader picks one.
#ifdef __x86_64__
#define FOR_EVERY_PROCESSOR \
  __attribute__((target_clones("avx2", "default"), flatten))
#else
#define FOR_EVERY_PROCESSOR
#endif

FOR_EVERY_PROCESSOR void Forward(const Windows& w, int64_t first, int64_t count,
                                 const float* images, float* out, uint8_t* where) {
  PoolForward(w, first, count, images, out, where);
}
FOR_EVERY_PROCESSOR void Forward(const Windows& w, int64_t first, int64_t count,
                                 const uint16_t* images, uint16_t* out, uint8_t* where) {
  PoolForward(w, first, count, images, out, where);
}
FOR_EVERY_PROCESSOR void Backward(const Windows& w, int64_t first, int64_t count,
                                  const float* out, const uint8_t* where, float* images) {
  PoolBackward(w, first, count, out, where, images);
}
FOR_EVERY_PROCESSOR void Backward(const Windows& w, int64_t first, int64_t count,
                                  const uint16_t* out, const uint8_t* where,
                                  uint16_t* images) {
  PoolBackward(w, first, count, out, where, images);
}

// Calls use(first image, number of images, a value of the images' C++ type) on all threads.
template <typename F>
void DividePool(ffi::ThreadPool& pool, const Dims& images, Type type, F&& use) {
  Shares shares(pool, images[0], Product(images) * 4);
  Parallel(pool, shares.count, [&](int i) {
    if (type == Type::f32)
      use(shares.first(i), shares.size(i), float{});
    else
      use(shares.first(i), shares.size(i), uint16_t{});
  });
}

template <typename F>
ffi::Error Guard(F&& run) {
  try {
    run();
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
}

}  // namespace

// ---------------------------------------------------------------------------------
// What Python registers

#define EXPORTED extern "C" __attribute__((visibility("default")))

// The version of oneDNN, and the jaxlib whose headers this was compiled with.
EXPORTED const char* onednn_jax_version() {
  static const std::string version = [] {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
           std::to_string(v->patch);
  }();
  return version.c_str();
}
EXPORTED const char* onednn_jax_jaxlib() { return ONEDNN_JAX_JAXLIB; }

using Array = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_forward,
    (+[](ffi::ThreadPool pool, Array images, Array kernel, Array bias, Result out,
         Pads pads, bool relu) {
      return Guard([&] {
        Shape shape(ImageDims(images), KernelDims(kernel), ImageDims(*out), pads,
                    TypeOf(images));
        Convolve(pool, shape, true, images.untyped_data(), kernel.untyped_data(),
                 bias.untyped_data(), out->untyped_data(), relu);
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Arg<Array>()
        .Ret<Array>().Attr<Pads>("pads").Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_backward_images,
    (+[](ffi::ThreadPool pool, Array out, Array kernel, Result images, Pads pads) {
      return Guard([&] {
        Shape shape(ImageDims(*images), KernelDims(kernel), ImageDims(out), pads,
                    TypeOf(out));
        Convolve(pool, shape, false, out.untyped_data(), kernel.untyped_data(), nullptr,
                 images->untyped_data());
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
        .Attr<Pads>("pads"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_backward_kernel,
    (+[](ffi::ThreadPool pool, Array images, Array out, Result kernel, Result bias,
         Pads pads) {
      return Guard([&] {
        Shape shape(ImageDims(images), KernelDims(*kernel), ImageDims(out), pads,
                    TypeOf(images));
        ConvolveKernel(pool, shape, images.untyped_data(), out.untyped_data(),
                       static_cast<float*>(kernel->untyped_data()),
                       static_cast<float*>(bias->untyped_data()));
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
        .Ret<Array>().Attr<Pads>("pads"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    pool_forward,
    (+[](ffi::ThreadPool pool, Array images, Result out, Result where, int64_t size) {
      return Guard([&] {
        Windows windows{ImageDims(images), ImageDims(*out), size};
        DividePool(pool, windows.images, TypeOf(images), [&](auto first, auto count,
                                                             auto t) {
          using T = decltype(t);
          Forward(windows, first, count, static_cast<T*>(images.untyped_data()),
                      static_cast<T*>(out->untyped_data()),
                      static_cast<uint8_t*>(where->untyped_data()));
        });
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Ret<Array>().Ret<Array>()
        .Attr<int64_t>("size"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    pool_backward,
    (+[](ffi::ThreadPool pool, Array out, Array where, Result images, int64_t size) {
      return Guard([&] {
        Windows windows{ImageDims(*images), ImageDims(out), size};
        DividePool(pool, windows.images, TypeOf(out), [&](auto first, auto count,
                                                          auto t) {
          using T = decltype(t);
          Backward(windows, first, count, static_cast<T*>(out.untyped_data()),
                       static_cast<uint8_t*>(where.untyped_data()),
                       static_cast<T*>(images->untyped_data()));
        });
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
        .Attr<int64_t>("size"));

#pragma GCC visibility pop
