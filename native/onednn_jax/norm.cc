// BatchNorm with a ReLU, in parts between which moments and sums can be averaged over
// devices: moments and the scaled values; two sums of the gradient and the gradient.
//
// Arrays are rows of channels, float32 or bfloat16; numbers per channel are float32.
// Sums are taken in double precision: mean and variance are right to their last digits
// even where the variance is a small part of the squares. A NaN goes through.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include "common.h"

using namespace onednn_jax;

namespace {

// Rows whose numbers are added before the sum is loaded and stored.
constexpr int kRows = 4;

// Adds f(row, channel) and g(row, channel) over rows to two sums per channel.
template <typename F>
[[gnu::always_inline]] inline void AddRows(int64_t rows, int64_t channels,
                                           double* __restrict first,
                                           double* __restrict second, const F& terms) {
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    for (int64_t c = 0; c < channels; ++c) {
      double a = 0, b = 0;
      for (int k = 0; k < kRows; ++k) {
        auto [x, y] = terms((row + k) * channels + c, c);
        a += x;
        b += y;
      }
      first[c] += a;
      second[c] += b;
    }
  for (; row < rows; ++row)
    for (int64_t c = 0; c < channels; ++c) {
      auto [x, y] = terms(row * channels + c, c);
      first[c] += x;
      second[c] += y;
    }
}

struct Terms {
  double first, second;
};

template <typename T>
FOR_EVERY_PROCESSOR void AddMoments(const T* x, int64_t rows, int64_t channels,
                                    double* sum, double* squares) {
  AddRows(rows, channels, sum, squares, [=](int64_t i, int64_t) {
    const double value = Value(x[i]);
    return Terms{value, value * value};
  });
}

// The ReLU's limit: none without it. Comparisons are such that a NaN is kept.
float Lowest(bool relu) { return relu ? 0.f : -std::numeric_limits<float>::infinity(); }

template <typename T>
FOR_EVERY_PROCESSOR void Apply(const T* __restrict x, int64_t rows, int64_t channels,
                               const float* __restrict factor,
                               const float* __restrict shift, float lowest,
                               T* __restrict y) {
  for (int64_t row = 0; row < rows; ++row, x += channels, y += channels)
    for (int64_t c = 0; c < channels; ++c) {
      const float value = Value(x[c]) * factor[c] + shift[c];
      Set(y[c], value < lowest ? lowest : value);
    }
}

// The numbers per channel that the gradient needs.
struct Channels {
  const float *factor, *shift, *center, *slope, *constant;
  float lowest;

  // The gradient by the scaled value: none where the ReLU has made 0 of it.
  template <typename T>
  float Through(T x, T gradient, int64_t c) const {
    // By bits: with a branch, the loops would not be vectorized.
    const uint32_t passes = Value(x) * factor[c] + shift[c] > lowest;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(Value(gradient)) & -passes);
  }
};

template <typename T>
FOR_EVERY_PROCESSOR void AddGradients(const T* x, const T* gradient, int64_t rows,
                                      int64_t channels, Channels by, double* sum,
                                      double* products) {
  AddRows(rows, channels, sum, products, [=](int64_t i, int64_t c) {
    const double through = by.Through(x[i], gradient[i], c);
    return Terms{through, through * (double{Value(x[i])} - by.center[c])};
  });
}

template <typename T>
FOR_EVERY_PROCESSOR void Gradient(const T* __restrict x, const T* __restrict gradient,
                                  int64_t rows, int64_t channels, Channels by,
                                  T* __restrict out) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t i = row * channels + c;
      const float through = by.Through(x[i], gradient[i], c);
      Set(out[i], by.factor[c] * through + by.slope[c] * (Value(x[i]) - by.center[c]) +
                      by.constant[c]);
    }
  }
}

struct Rows {
  int64_t count = 1, channels;

  explicit Rows(const Array& x) {
    auto axes = x.dimensions();
    if (axes.size() == 0) throw std::invalid_argument("an axis of channels is needed");
    channels = axes.back();
    for (size_t i = 0; i + 1 < axes.size(); ++i) count *= axes[i];
  }
  Shares Divide(ffi::ThreadPool& pool) const {
    return Shares(pool, count, count * channels * 4);
  }
  // Calls use(first number, number of rows) on all threads.
  template <typename F>
  void Each(ffi::ThreadPool& pool, F&& use) const {
    const Shares shares = Divide(pool);
    Parallel(pool, shares.count,
             [&](int i) { use(shares.first(i) * channels, shares.size(i)); });
  }
  // Likewise, with two sums per channel as the third and fourth argument.
  template <typename F>
  std::vector<double> Sum(ffi::ThreadPool& pool, F&& add) const {
    const Shares shares = Divide(pool);
    std::vector<std::vector<double>> sums(shares.count);
    Parallel(pool, shares.count, [&](int i) {
      sums[i].resize(2 * channels);
      add(shares.first(i) * channels, shares.size(i), sums[i].data(),
          sums[i].data() + channels);
    });
    for (int i = 1; i < shares.count; ++i)
      for (int64_t k = 0; k < 2 * channels; ++k) sums[0][k] += sums[i][k];
    return sums[0];
  }
};

}  // namespace

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    norm_moments,
    (+[](ffi::ThreadPool pool, Array x, Result mean, Result var) {
      return Guard([&] {
        const Rows rows(x);
        std::vector<double> sums;
        WithType(x, [&](auto type) {
          auto* from = Data<decltype(type)>(x);
          sums = rows.Sum(pool, [&](int64_t at, int64_t count, double* a, double* b) {
            AddMoments(from + at, count, rows.channels, a, b);
          });
        });
        for (int64_t c = 0; c < rows.channels; ++c) {
          const double average = sums[c] / rows.count;
          const double rest = sums[rows.channels + c] / rows.count - average * average;
          Data<float>(*mean)[c] = average;
          Data<float>(*var)[c] = rest < 0 ? 0 : rest;
        }
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Ret<Array>().Ret<Array>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    norm_apply,
    (+[](ffi::ThreadPool pool, Array x, Array factor, Array shift, Result y, bool relu) {
      return Guard([&] {
        const Rows rows(x);
        WithType(x, [&](auto type) {
          using T = decltype(type);
          rows.Each(pool, [&](int64_t at, int64_t count) {
            Apply(Data<T>(x) + at, count, rows.channels, Data<float>(factor),
                  Data<float>(shift), Lowest(relu), Data<T>(*y) + at);
          });
        });
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Arg<Array>()
        .Ret<Array>().Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    norm_gradient_sums,
    (+[](ffi::ThreadPool pool, Array x, Array gradient, Array factor, Array shift,
         Array center, Result sum, Result products, bool relu) {
      return Guard([&] {
        const Rows rows(x);
        const Channels by{Data<float>(factor), Data<float>(shift), Data<float>(center),
                          nullptr, nullptr, Lowest(relu)};
        std::vector<double> sums;
        WithType(x, [&](auto type) {
          using T = decltype(type);
          sums = rows.Sum(pool, [&](int64_t at, int64_t count, double* a, double* b) {
            AddGradients(Data<T>(x) + at, Data<T>(gradient) + at, count, rows.channels,
                         by, a, b);
          });
        });
        std::copy_n(sums.data(), rows.channels, Data<float>(*sum));
        std::copy_n(sums.data() + rows.channels, rows.channels, Data<float>(*products));
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Arg<Array>()
        .Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>().Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    norm_gradient,
    (+[](ffi::ThreadPool pool, Array x, Array gradient, Array factor, Array shift,
         Array center, Array slope, Array constant, Result out, bool relu) {
      return Guard([&] {
        const Rows rows(x);
        const Channels by{Data<float>(factor), Data<float>(shift), Data<float>(center),
                          Data<float>(slope), Data<float>(constant), Lowest(relu)};
        WithType(x, [&](auto type) {
          using T = decltype(type);
          rows.Each(pool, [&](int64_t at, int64_t count) {
            Gradient(Data<T>(x) + at, Data<T>(gradient) + at, count, rows.channels, by,
                     Data<T>(*out) + at);
          });
        });
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Arg<Array>()
        .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>()
        .Attr<bool>("relu"));

#pragma GCC visibility pop
