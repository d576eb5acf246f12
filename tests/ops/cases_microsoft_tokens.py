"""com.microsoft: transforms of signals, hashes, tokens and words, alignments, pools with a mask."""
import numpy as np

from suite import MS, case, f32, rng

# ---- Rfft, Irfft: ONNX Runtime has no kernel for the CPU
for kind in (np.float32, np.float64):
    t = np.dtype(kind).name
    for axes in (1, 2):
        over = tuple(range(-axes, 0))
        case(f"rfft_{t}_{axes}", "Rfft", [f32(2, 4, 6).astype(kind)], {"signal_ndim": axes}, MS, atol=1e-4,
             ref=lambda x, over=over: np.stack([np.fft.rfftn(x, axes=over).real, np.fft.rfftn(x, axes=over).imag], -1).astype(x.dtype))
        case(f"irfft_{t}_{axes}", "Irfft", [np.stack([np.fft.rfftn(f32(2, 4, 6), axes=over).real, np.fft.rfftn(f32(2, 4, 6), axes=over).imag], -1).astype(kind)], {"signal_ndim": axes}, MS,
             ref=lambda x, k=kind: f32(2, 4, 6).astype(k))
case("rfft_dynamic", "Rfft", [f32(2, 16)], {}, MS, dyn={0: ["N", "L"]}, atol=1e-4, ref=lambda x: np.stack([np.fft.rfft(x).real, np.fft.rfft(x).imag], -1).astype(x.dtype))

# ---- Unique: ONNX Runtime has a kernel for float only
def unique(x):
    values, first, index, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    return values[order], np.argsort(order)[index].astype(np.int64), counts[order].astype(np.int64)


case("ms_unique", "Unique", [np.float32([2, 1, 1, 3, 4, 3])], {}, MS, n_out=3)
for kind in (np.int64, np.uint8):
    case(f"ms_unique_{np.dtype(kind).name}", "Unique", [np.array([2, 1, 1, 3, 4, 3], kind)], {}, MS, n_out=3, ref=unique)
case("ms_unique_dynamic", "Unique", [np.float32([5, 5, 5])], {}, MS, n_out=3, dyn={0: ["N"]})
case("ms_unique_counts", "Unique", [np.int64([5, 7, 5])], {}, MS, n_out=3, outs=[2], ref=lambda x: np.int64([2, 1]))

# ---- NGramRepeatBlock
IDS = np.int64([[1, 2, 3, 1, 2, 3, 1], [4, 4, 4, 4, 4, 4, 4], [0, 1, 2, 3, 4, 5, 6]])
for n in (1, 2, 3, 7, 8, 9):
    case(f"ngram_repeat_block_{n}", "NGramRepeatBlock", [IDS, f32(3, 8)], {"ngram_size": n}, MS, dyn={0: ["B", "S"], 1: ["B", 8]} if n in (3, 9) else None)

# ---- MurmurHash3
for kind in (np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64):
    x = (rng(2).standard_normal((2, 3)) * 1e6).astype(np.int64).astype(kind) if kind != np.uint64 else rng(3).integers(0, 1 << 63, (2, 3)).astype(np.uint64)
    for positive in (0, 1):
        case(f"murmur_hash_{np.dtype(kind).name}_{positive}", "MurmurHash3", [x], {"positive": positive, "seed": 3 * positive}, MS, dyn={0: ["N", 3]} if kind == np.int64 else None)
for positive in (0, 1):
    case(f"murmur_hash_string_{positive}", "MurmurHash3", [np.array(["", "a", "ab", "abc", "abcd", "the quick brown fox", "grün"], object)], {"positive": positive, "seed": 5}, MS)

# ---- WordConvEmbedding
WORDS = np.int32([[1, 2, 3, 0], [2, 0, 0, 0], [0, 0, 0, 0], [3, 3, 3, 3], [1, 2, 0, 3]])
case("word_conv_embedding", "WordConvEmbedding", [WORDS, f32(6, 1, 2, 3), f32(6), f32(5, 3)], {"conv_window_size": 2, "embedding_size": 6, "char_embedding_size": 3}, MS, consts=(1, 2, 3), dyn={0: ["W", 4]})
case("word_conv_embedding_wide", "WordConvEmbedding", [WORDS, f32(6, 1, 4, 3), f32(6), f32(5, 3)], {}, MS)

# ---- DynamicTimeWarping
for rows, columns in ((4, 5), (6, 3), (1, 4), (5, 1), (7, 7)):
    case(f"time_warp_{rows}_{columns}", "DynamicTimeWarping", [np.abs(f32(rows, columns))], {}, MS)
case("time_warp_ties", "DynamicTimeWarping", [np.ones((4, 6), np.float32)], {}, MS)
case("time_warp_batch", "DynamicTimeWarping", [np.abs(f32(1, 6, 4))], {}, MS)
case("time_warp_dynamic", "DynamicTimeWarping", [f32(6, 4)], {}, MS, dyn={0: ["M", "N"]})

# ---- BifurcationDetector
I = np.int64
SOURCE = I([1, 5, 3, 4, 2, 6, 4])
case("bifurcation_none", "BifurcationDetector", [SOURCE, I([2]), I([0])], {}, MS, n_out=2)
case("bifurcation_first", "BifurcationDetector", [SOURCE, I([2]), I([0]), I([1, 5, 9, 4, 2, 6, 4, 0])], {}, MS, n_out=2)
case("bifurcation_all", "BifurcationDetector", [SOURCE, I([2]), I([4]), I([2, 6, 4, 1])], {}, MS, n_out=2)
case("bifurcation_end", "BifurcationDetector", [SOURCE, I([2, 3]), I([7]), I([5])], {}, MS, n_out=2)
case("bifurcation_twice", "BifurcationDetector", [SOURCE, I([3]), I([3]), I([4, 9, 9, 9, 9])], {"min_ngram_size": 1, "max_ngram_size": 1}, MS, n_out=2)
case("bifurcation_longer", "BifurcationDetector", [SOURCE, I([3, 4]), I([0])], {"min_ngram_size": 1, "max_ngram_size": 3}, MS, n_out=2)
case("bifurcation_dynamic", "BifurcationDetector", [SOURCE, I([2, 6]), I([3]), I([4, 2, 9, 9, 9])], {}, MS, n_out=2, dyn={0: ["S"], 1: ["C"], 3: ["P"]})

# ---- MaxpoolWithMask
X = f32(2, 3, 4, 5)
for name, shape in (("one", (1, 1, 4, 5)), ("channels", (1, 3, 4, 5)), ("batch", (2, 1, 4, 5)), ("all", (2, 3, 4, 5))):
    mask = rng(4).integers(0, 3, shape).astype(np.int32)
    case(f"max_pool_mask_{name}", "MaxpoolWithMask", [X, mask], {"kernel_shape": [3, 3]}, MS)
    case(f"max_pool_mask_{name}_pads", "MaxpoolWithMask", [X, mask], {"kernel_shape": [2, 3], "pads": [1, 0, 0, 2], "strides": [2, 1]}, MS, dyn={0: ["N", 3, "H", "W"], 1: [*mask.shape[:2], "H", "W"]})
case("max_pool_mask_line", "MaxpoolWithMask", [f32(2, 3, 7), rng(4).integers(0, 3, (1, 1, 7)).astype(np.int32)], {"kernel_shape": [3]}, MS)

# ---- products
case("matmul_integer_16", "MatMulInteger16", [rng(1).integers(-100, 100, (2, 3, 4)).astype(np.int16), rng(2).integers(-100, 100, (2, 4, 5)).astype(np.int16)], {}, MS)

# ---- Tokenizer
def tokens(name, strings, dyn=None, mark=0, least=1, pad="#", **attrs):
    case(f"tokenizer_{name}", "Tokenizer", [np.array(strings, object)], {"mark": mark, "mincharnum": least, "pad_value": pad, **attrs}, MS, dyn={0: dyn} if dyn else None)


LINES = ["Hello World", "a b  c", "", "grün und blau"]
tokens("spaces", LINES, separators=[" "], dyn=["N"])
tokens("spaces_mark", LINES, separators=[" "], mark=1)
tokens("spaces_least", LINES, separators=[" "], least=2, pad="")
tokens("several", [["Hello World", "a,b;  c"]], separators=[",", "; *", " "], dyn=["N", "C"])
tokens("numbers", ["a1b22c", "333"], separators=["[0-9]+"])
tokens("nothing", ["a--b-c", "--"], separators=["-*"])
tokens("characters", LINES, separators=[""])
tokens("characters_mark", LINES, tokenexp=".", mark=1)
tokens("words", ["abc123def45", "x1"], tokenexp="[a-z]+")
tokens("digits", ["abc123def45", "x1"], tokenexp="[0-9]+", mark=1, least=2)
tokens("longest", ["abcabd"], tokenexp="a|ab|abc")
tokens("empty", ["", ""], separators=[" "], mark=1)
