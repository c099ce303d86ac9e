// Convolutions by oneDNN, forward and backward.
//
// Images are NHWC; kernels HWIO, whose outputs are ordered by groups.
//
// Kernels are brought to the layout that oneDNN prefers, and their gradients back, in
// every call. Threads share that work: for VGG's largest it takes as long as the rest.
//
// A NaN goes through. oneDNN's own ReLU makes 0 of it, which would hide that a training
// has diverged: ReLU is written out below.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "common.h"
#include "oneapi/dnnl/dnnl.hpp"

using namespace onednn_jax;
using dnnl::memory;
using Dims = memory::dims;
using Tag = memory::format_tag;
using Type = memory::data_type;
using Arguments = std::unordered_map<int, memory>;

namespace {

dnnl::engine& Engine() {
  static auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

memory At(const memory::desc& desc, const void* data) {
  return memory(desc, Engine(), const_cast<void*>(data));
}

// Some images of an array, as they are or side by side with columns of zeros between.
class Images {
 public:
  // `dims` are the whole array's; the images are `count` from `first` on.
  Images(const Dims& dims, Type type, const void* data, int64_t first, int64_t count,
         int64_t gap)
      : height_(dims[2]), count_(count) {
    const int64_t place = dims[1] * memory::data_type_size(type);
    row_ = dims[3] * place;
    zeros_ = gap * place;
    data_ = static_cast<char*>(const_cast<void*>(data)) + first * height_ * row_;
    if (gap) buffer_ = std::make_unique<Buffer>(height_ * count_ * (row_ + zeros_));
  }
  void* data() const { return buffer_ ? buffer_->data() : data_; }
  // Lays them side by side, if they are to be.
  void Spread() const {
    Each([&](char* own, char* wide) {
      std::memcpy(wide, own, row_);
      std::memset(wide + row_, 0, zeros_);
    });
  }
  // Brings them back.
  void Collect() const {
    Each([&](char* own, char* wide) { std::memcpy(own, wide, row_); });
  }

 private:
  template <typename F>
  void Each(F&& use) const {
    if (!buffer_) return;
    char* wide = static_cast<char*>(buffer_->data());
    for (int64_t y = 0; y < height_; ++y)
      for (int64_t i = 0; i < count_; ++i, wide += row_ + zeros_)
        use(data_ + (i * height_ + y) * row_, wide);
  }
  int64_t height_, count_, row_, zeros_;  // the last two in bytes
  char* data_;
  std::unique_ptr<Buffer> buffer_;
};

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

constexpr int64_t kNarrow = 4;

struct Shape {
  Dims images, kernel, out, before, after, strides;
  int64_t groups;
  Type type;

  // `window`: 4 pads (top, bottom, left, right), 2 strides, and the number of groups.
  // The kernel of several groups has 5 axes, of which the first is the group.
  Shape(const Array& images, const Array& kernel, const Array& out, Numbers window)
      : images(ImageDims(images)), kernel(KernelDims(kernel)), out(ImageDims(out)),
        type(TypeOf(images)) {
    if (window.size() != 7) throw std::invalid_argument("7 numbers are needed");
    before = {window[0], window[2]};
    after = {window[1], window[3]};
    strides = {window[4], window[5]};
    groups = window[6];
    if (groups == 1) return;
    this->kernel[0] /= groups;
    this->kernel.insert(this->kernel.begin(), groups);
  }
  int64_t batch() const { return images[0]; }
  int64_t pixels() const { return out[0] * out[2] * out[3]; }
  int64_t work() const { return pixels() * Product(kernel); }
  // Columns of zeros between the images of a share that are laid side by side, as one
  // wide image; 0 if they are not. oneDNN's inner loop runs along a row, and is slow on
  // rows of 4 or 2 places, as VGG has in its last blocks.
  int64_t gap() const {
    bool same = images[2] == out[2] && images[3] == out[3] && before[1] == after[1] &&
                strides == Dims{1, 1};
    return same && images[3] <= kNarrow ? before[1] : 0;
  }
  // The same for a share of the batch.
  Shape With(int64_t batch) const {
    Shape shape = *this;
    shape.images[0] = shape.out[0] = gap() ? 1 : batch;
    if (gap()) shape.images[3] = shape.out[3] = batch * (images[3] + gap());
    return shape;
  }
  // A share's images, or what comes of them, of an array of these dimensions.
  Images Take(const Dims& dims, const void* data, const Shares& shares, int i) const {
    return Images(dims, type, data, shares.first(i), shares.size(i), gap());
  }
  std::vector<int64_t> Key(int64_t kind) const {
    std::vector<int64_t> key{kind, static_cast<int64_t>(type)};
    for (auto* dims : {&images, &kernel, &out, &before, &after, &strides})
      key.insert(key.end(), dims->begin(), dims->end());
    return key;
  }
  memory::desc ImagesDesc() const { return Nhwc(images, type); }
  memory::desc OutDesc() const { return Nhwc(out, type); }
  memory::desc AnyKernel(Type t) const { return {kernel, t, Tag::any}; }
  memory::desc Bias() const { return {{out[1]}, Type::f32, Tag::a}; }
  memory::desc Hwio(Type t) const {
    return {kernel, t, groups == 1 ? Tag::hwio : Tag::hwigo};
  }
};

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

// A change of a kernel's layout, in parts that threads share; no parts: none is needed.
struct Reorder {
  memory::desc from, to;
  struct Part {
    Primitive run;
    memory::desc from, to;
  };
  std::vector<Part> parts;

  Reorder() = default;
  // The size of a layout's blocks along an axis, such as 8, 24 or 64: it depends on the
  // processor's instructions.
  static int64_t Block(const memory::desc& desc, int axis) {
    int64_t block = 1;
    const Dims axes = desc.get_inner_idxs(), sizes = desc.get_inner_blks();
    for (size_t i = 0; i < axes.size(); ++i)
      if (axes[i] == axis) block *= sizes[i];
    return block;
  }
  // Divides the kernel along an axis into at most `most` parts, of 64 or more each.
  Reorder(const memory::desc& from, const memory::desc& to, int axis, int64_t most)
      : from(from), to(to) {
    if (from == to) return;
    const Dims dims = from.get_dims();
    const int64_t block = std::lcm(Block(from, axis), Block(to, axis));
    const int64_t blocks = (dims[axis] + block - 1) / block;
    const int64_t count = std::clamp<int64_t>(dims[axis] / 64, 1, std::min(most, blocks));
    for (int64_t i = 0; i < count; ++i) {
      Dims offset(dims.size(), 0), size = dims;
      offset[axis] = blocks * i / count * block;
      size[axis] = std::min(dims[axis], blocks * (i + 1) / count * block) - offset[axis];
      Part part{{}, from.submemory_desc(size, offset), to.submemory_desc(size, offset)};
      dnnl::reorder::primitive_desc pd(Engine(), part.from, Engine(), part.to,
                                       Attributes());
      part.run = {dnnl::reorder(pd), pd.scratchpad_desc()};
      parts.push_back(part);
    }
  }
  void Run(ffi::ThreadPool& pool, const void* source, void* target) const {
    Parallel(pool, parts.size(), [&](int i) {
      parts[i].run.Run({{DNNL_ARG_FROM, At(parts[i].from, source)},
                        {DNNL_ARG_TO, At(parts[i].to, target)}});
    });
  }
};

struct Conv {
  Primitive conv;
  Reorder reorder;
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

dnnl::convolution_forward::primitive_desc DescribeForward(const Shape& s) {
  return {Engine(),
          dnnl::prop_kind::forward_training,
          kDirect,
          s.ImagesDesc(),
          s.AnyKernel(s.type),
          s.Bias(),
          s.OutDesc(),
          s.strides,
          s.before,
          s.after,
          Attributes()};
}

Conv MakeForward(const Shape& s, int64_t threads) {
  auto pd = DescribeForward(s);
  return {{dnnl::convolution_forward(pd), pd.scratchpad_desc()},
          Reorder(s.Hwio(s.type), pd.weights_desc(), 0, threads),
          pd.weights_desc()};
}

Conv MakeBackwardImages(const Shape& s, int64_t threads) {
  dnnl::convolution_backward_data::primitive_desc pd(
      Engine(), kDirect, s.ImagesDesc(), s.AnyKernel(s.type), s.OutDesc(), s.strides,
      s.before, s.after, DescribeForward(s), Attributes());
  return {{dnnl::convolution_backward_data(pd), pd.scratchpad_desc()},
          Reorder(s.Hwio(s.type), pd.weights_desc(), 1, threads),
          pd.weights_desc()};
}

// The kernel's gradient is float32, whatever the images are.
Conv MakeBackwardKernel(const Shape& s, int64_t threads) {
  dnnl::convolution_backward_weights::primitive_desc pd(
      Engine(), kDirect, s.ImagesDesc(), s.AnyKernel(Type::f32), s.Bias(), s.OutDesc(),
      s.strides, s.before, s.after, DescribeForward(s), Attributes());
  return {{dnnl::convolution_backward_weights(pd), pd.scratchpad_desc()},
          Reorder(pd.diff_weights_desc(), s.Hwio(Type::f32), 0, threads),
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

// The primitives for the shares of a batch, whose sizes differ by one at most.
struct Made {
  std::vector<const Conv*> of;  // by share

  template <typename F>
  Made(const Shape& s, const Shares& shares, int64_t kind, F&& make) {
    SingleThreaded alone;  // a primitive is made for the threads that there are then
    for (int i = 0; i < shares.count; ++i) {
      Shape share = s.With(shares.size(i));
      auto key = share.Key(kind);
      key.push_back(shares.count);
      of.push_back(&Find(key, [&] { return make(share, shares.count); }));
    }
  }
  // Whether all want the kernel in the same layout.
  bool Agree() const {
    return std::all_of(of.begin(), of.end(),
                       [&](const Conv* conv) { return conv->kernel == of[0]->kernel; });
  }
};

// Forward, and backward to the images: one array of images becomes another, by a kernel.
void Convolve(ffi::ThreadPool& pool, const Shape& s, bool forward, const void* from,
              const void* kernel, const void* bias, void* to, bool relu = false) {
  if (s.batch() == 0) return;
  Shares shares(pool, s.batch(), s.work());
  Made made(s, shares, forward ? 0 : 1, forward ? MakeForward : MakeBackwardImages);
  // One layout for each share, or one for all.
  const int layouts = made.Agree() ? 1 : shares.count;
  std::vector<std::unique_ptr<Buffer>> ready(layouts);
  for (int i = 0; i < layouts; ++i) {
    const Reorder& reorder = made.of[i]->reorder;
    if (reorder.parts.empty()) continue;
    ready[i] = std::make_unique<Buffer>(made.of[i]->kernel.get_size());
    reorder.Run(pool, kernel, ready[i]->data());
  }
  Parallel(pool, shares.count, [&](int i) {
    Shape share = s.With(shares.size(i));
    const auto& buffer = ready[i % layouts];
    memory weights = At(made.of[i]->kernel, buffer ? buffer->data() : kernel);
    Images images = s.Take(s.images, forward ? from : to, shares, i);
    Images out = s.Take(s.out, forward ? to : from, shares, i);
    if (forward) {
      images.Spread();
      made.of[i]->conv.Run({{DNNL_ARG_SRC, At(share.ImagesDesc(), images.data())},
                            {DNNL_ARG_WEIGHTS, weights},
                            {DNNL_ARG_BIAS, At(s.Bias(), bias)},
                            {DNNL_ARG_DST, At(share.OutDesc(), out.data())}});
      if (relu) Relu(s.type, out.data(), Product(share.out));
      out.Collect();
    } else {
      out.Spread();
      made.of[i]->conv.Run({{DNNL_ARG_DIFF_SRC, At(share.ImagesDesc(), images.data())},
                            {DNNL_ARG_WEIGHTS, weights},
                            {DNNL_ARG_DIFF_DST, At(share.OutDesc(), out.data())}});
      images.Collect();
    }
  });
}

// Adds arrays to the first of them, one after the other; threads divide their length.
void Add(ffi::ThreadPool& pool, const std::vector<float*>& arrays, size_t size) {
  const int parts = size > 50'000 ? arrays.size() : 1;
  if (arrays.size() == 1) return;
  Parallel(pool, parts, [&](int part) {
    float* __restrict sum = arrays[0];
    for (size_t i = 1; i < arrays.size(); ++i) {
      const float* __restrict other = arrays[i];
      for (size_t k = size * part / parts; k < size * (part + 1) / parts; ++k)
        sum[k] += other[k];
    }
  });
}

void ConvolveKernel(ffi::ThreadPool& pool, const Shape& s, const void* images,
                    const void* out, float* kernel, float* bias) {
  const size_t size = Product(s.kernel), channels = s.out[1];
  if (s.batch() == 0) {
    std::fill_n(kernel, size, 0.f);
    std::fill_n(bias, channels, 0.f);
    return;
  }
  // Every share has a sum as large as the kernel. Below some 64 pixels, adding it to the
  // others takes longer than computing it; and with many threads they fill the memory.
  Shares shares(pool, s.batch(), s.work(), s.pixels() / 64);
  Made made(s, shares, 2, MakeBackwardKernel);
  const bool agree = made.Agree(), plain = agree && made.of[0]->reorder.parts.empty();
  // Sums in oneDNN's layout, then biases; those of the first share stand where the
  // results are wanted if nothing remains to be done with them.
  std::vector<std::unique_ptr<Buffer>> space;
  std::vector<float*> sums{kernel}, biases{bias};
  for (int i = plain ? 1 : 0; i < shares.count; ++i) {
    const size_t length = made.of[i]->kernel.get_size() / sizeof(float);
    space.push_back(std::make_unique<Buffer>((length + channels) * sizeof(float)));
    auto* data = static_cast<float*>(space.back()->data());
    if (i == 0) {
      sums[0] = data;
    } else {
      sums.push_back(data);
      biases.push_back(data + length);
    }
  }
  Parallel(pool, shares.count, [&](int i) {
    Shape share = s.With(shares.size(i));
    Images from = s.Take(s.images, images, shares, i);
    Images gradient = s.Take(s.out, out, shares, i);
    from.Spread();
    gradient.Spread();
    made.of[i]->conv.Run(
        {{DNNL_ARG_SRC, At(share.ImagesDesc(), from.data())},
         {DNNL_ARG_DIFF_DST, At(share.OutDesc(), gradient.data())},
         {DNNL_ARG_DIFF_WEIGHTS, At(made.of[i]->kernel, sums[i])},
         {DNNL_ARG_DIFF_BIAS, At(s.Bias(), biases[i])}});
  });
  Add(pool, biases, channels);
  if (agree) {
    Add(pool, sums, made.of[0]->kernel.get_size() / sizeof(float));
    if (!plain) made.of[0]->reorder.Run(pool, sums[0], kernel);
    return;
  }
  std::vector<float*> ready{kernel};
  for (int i = 0; i < shares.count; ++i) {
    const Reorder& reorder = made.of[i]->reorder;
    if (i > 0) {
      space.push_back(std::make_unique<Buffer>(size * sizeof(float)));
      ready.push_back(static_cast<float*>(space.back()->data()));
    }
    if (reorder.parts.empty())
      std::copy_n(sums[i], size, ready[i]);
    else
      reorder.Run(pool, sums[i], ready[i]);
  }
  Add(pool, ready, size);
}

}  // namespace

// ---------------------------------------------------------------------------------
// What Python registers

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

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_forward,
    (+[](ffi::ThreadPool pool, Array images, Array kernel, Array bias, Result out,
         Numbers window, bool relu) {
      return Guard([&] {
        Shape shape(images, kernel, *out, window);
        Convolve(pool, shape, true, images.untyped_data(), kernel.untyped_data(),
                 bias.untyped_data(), out->untyped_data(), relu);
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Arg<Array>()
        .Ret<Array>().Attr<Numbers>("window").Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_backward_images,
    (+[](ffi::ThreadPool pool, Array out, Array kernel, Result images, Numbers window) {
      return Guard([&] {
        Shape shape(*images, kernel, out, window);
        Convolve(pool, shape, false, out.untyped_data(), kernel.untyped_data(), nullptr,
                 images->untyped_data());
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
        .Attr<Numbers>("window"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_backward_kernel,
    (+[](ffi::ThreadPool pool, Array images, Array out, Result kernel, Result bias,
         Numbers window) {
      return Guard([&] {
        Shape shape(images, *kernel, out, window);
        ConvolveKernel(pool, shape, images.untyped_data(), out.untyped_data(),
                       static_cast<float*>(kernel->untyped_data()),
                       static_cast<float*>(bias->untyped_data()));
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
        .Ret<Array>().Attr<Numbers>("window"));

#pragma GCC visibility pop
