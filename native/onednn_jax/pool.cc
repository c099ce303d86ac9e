// Max pools: the largest number of each window and where it was, and the way back.
//
// They are written out, as oneDNN's max pool passes over a NaN and makes the lowest
// number of nothing but NaN, which would hide that a training has diverged.

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "common.h"

using namespace onednn_jax;

namespace {

// The axes of images [count, height, width, channels] and of the windows' results.
struct Windows {
  int64_t count, height, width, channels, rows, columns, size, stride, top, left;

  // `window`: the size, the stride, and the padding above and to the left.
  Windows(const Array& images, const Array& out, Numbers window) {
    auto from = images.dimensions(), to = out.dimensions();
    if (from.size() != 4 || to.size() != 4 || window.size() != 4)
      throw std::invalid_argument("4 axes and 4 numbers are needed");
    count = from[0], height = from[1], width = from[2], channels = from[3];
    rows = to[1], columns = to[2];
    size = window[0], stride = window[1], top = window[2], left = window[3];
  }
  int64_t pixel(int64_t n, int64_t y, int64_t x) const {
    return ((n * height + y) * width + x) * channels;
  }
  int64_t result(int64_t n, int64_t y, int64_t x) const {
    return ((n * rows + y) * columns + x) * channels;
  }
};

// From the first index to before the last.
struct Range {
  int64_t first, last;
};
// What a window holds, of an axis of this length.
Range Inside(int64_t window, int64_t pad, int64_t length, const Windows& w) {
  const int64_t first = window * w.stride - pad;
  return {std::max<int64_t>(first, 0), std::min(first + w.size, length)};
}
// The windows that hold a place.
Range Holding(int64_t place, int64_t pad, int64_t windows, const Windows& w) {
  const int64_t before = place + pad - w.size;  // no window that ends here holds it
  return {before < 0 ? 0 : before / w.stride + 1,
          std::min((place + pad) / w.stride + 1, windows)};
}

// Of equal numbers the first. A NaN is larger than every number. Channels are innermost,
// for the compiler to take many at a time.
template <typename T>
FOR_EVERY_PROCESSOR void Forward(const Windows& w, int64_t n, const T* images, T* out,
                                 uint8_t* where) {
  const int64_t channels = w.channels;  // what is written to `where` cannot change it
  for (int64_t row = 0; row < w.rows; ++row) {
    const Range ys = Inside(row, w.top, w.height, w);
    for (int64_t column = 0; column < w.columns; ++column) {
      const Range xs = Inside(column, w.left, w.width, w);
      T* __restrict largest = out + w.result(n, row, column);
      uint8_t* __restrict index = where + w.result(n, row, column);
      for (int64_t y = ys.first; y < ys.last; ++y)
        for (int64_t x = xs.first; x < xs.last; ++x) {
          const T* __restrict next = images + w.pixel(n, y, x);
          const uint8_t now = (y + w.top - row * w.stride) * w.size + x + w.left -
                              column * w.stride;
          if (y == ys.first && x == xs.first) {
            std::copy_n(next, channels, largest);
            std::fill_n(index, channels, now);
            continue;
          }
          for (int64_t c = 0; c < channels; ++c) {
            const T old = largest[c], other = next[c];
            const uint8_t before = index[c];
            const bool keep = (Value(other) <= Value(old)) | (Value(old) != Value(old));
            largest[c] = keep ? old : other;
            index[c] = keep ? before : now;
          }
        }
    }
  }
}

// Each place gathers from the windows that hold it, in their order.
template <typename T>
FOR_EVERY_PROCESSOR void Backward(const Windows& w, int64_t n, const T* out,
                                  const uint8_t* where, T* images, float* __restrict sum) {
  for (int64_t y = 0; y < w.height; ++y) {
    const Range rows = Holding(y, w.top, w.rows, w);
    for (int64_t x = 0; x < w.width; ++x) {
      const Range columns = Holding(x, w.left, w.columns, w);
      T* __restrict to = images + w.pixel(n, y, x);
      const int64_t windows = std::max<int64_t>(rows.last - rows.first, 0) *
                              std::max<int64_t>(columns.last - columns.first, 0);
      if (windows == 0) std::fill_n(to, w.channels, T{});
      if (windows > 1) std::fill_n(sum, w.channels, 0.f);
      for (int64_t row = rows.first; row < rows.last; ++row)
        for (int64_t column = columns.first; column < columns.last; ++column) {
          const T* __restrict gradient = out + w.result(n, row, column);
          const uint8_t* __restrict index = where + w.result(n, row, column);
          const uint8_t here = (y + w.top - row * w.stride) * w.size + x + w.left -
                               column * w.stride;
          if (windows == 1)
            for (int64_t c = 0; c < w.channels; ++c) {
              const T value = gradient[c];
              to[c] = index[c] == here ? value : T{};
            }
          else
            for (int64_t c = 0; c < w.channels; ++c) {
              const float value = Value(gradient[c]);
              sum[c] += index[c] == here ? value : 0.f;
            }
        }
      if (windows > 1)
        for (int64_t c = 0; c < w.channels; ++c) Set(to[c], sum[c]);
    }
  }
}

// Calls use(an image's index) for every image, on all threads.
template <typename F>
void Divide(ffi::ThreadPool& pool, const Windows& w, F&& use) {
  const int64_t numbers = w.height * w.width + w.rows * w.columns * w.size * w.size;
  Shares shares(pool, w.count, w.count * numbers * w.channels);
  Parallel(pool, shares.count, [&](int i) {
    for (int64_t k = 0; k < shares.size(i); ++k) use(shares.first(i) + k);
  });
}

}  // namespace

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    pool_forward,
    (+[](ffi::ThreadPool pool, Array images, Result out, Result where, Numbers window) {
      return Guard([&] {
        Windows w(images, *out, window);
        WithType(images, [&](auto type) {
          using T = decltype(type);
          Divide(pool, w, [&](int64_t n) {
            Forward(w, n, Data<T>(images), Data<T>(*out), Data<uint8_t>(*where));
          });
        });
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Ret<Array>().Ret<Array>()
        .Attr<Numbers>("window"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    pool_backward,
    (+[](ffi::ThreadPool pool, Array out, Array where, Result images, Numbers window) {
      return Guard([&] {
        Windows w(*images, out, window);
        WithType(out, [&](auto type) {
          using T = decltype(type);
          Divide(pool, w, [&](int64_t n) {
            std::vector<float> sum(w.channels);
            Backward(w, n, Data<T>(out), Data<uint8_t>(where), Data<T>(*images),
                     sum.data());
          });
        });
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
        .Attr<Numbers>("window"));

#pragma GCC visibility pop
