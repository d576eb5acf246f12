"""Numbers in text: Cast from and to strings; CastMap and DictVectorizer of ai.onnx.ml."""
import numpy as np

from onnx import TensorProto

from suite import ML, case

FLOATS = np.array([0.47892547, 1e10, 123456789.0, 1e-5, 1e-4, -0.0, 0.1, np.nan, np.inf, -np.inf, 1e38, 3.4028235e38, 1e-45, 16777216, 1 / 3, 100000, 1e8, 99999999, 9999999.5, 2.5, -1234.5, 0.00012345678,
                   99999.9999, 1.17549435e-38, -7, 123456.785], np.float32)
RANDOM = np.random.default_rng(5).integers(0, 2**32, 300, dtype=np.uint32).view(np.float32)
TO_TEXT = {"to": TensorProto.STRING}
case("cast_text_f32", "Cast", [FLOATS], TO_TEXT, dyn={0: ["N"]})
case("cast_text_f32_any", "Cast", [RANDOM.reshape(3, 100)], TO_TEXT)
WIDE = np.concatenate([FLOATS.astype(np.float64), [5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 1 / 3, 123456785.0, 123456795.0, 0.000123456785]])
case("cast_text_f64", "Cast", [WIDE], TO_TEXT)
case("cast_text_f64_any", "Cast", [np.random.default_rng(6).integers(0, 2**63, 300).view(np.float64)], TO_TEXT)
with np.errstate(over="ignore"):
    case("cast_text_f16", "Cast", [FLOATS.astype(np.float16)], TO_TEXT)
for dtype in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
    ends = np.iinfo(dtype)
    case(f"cast_text_{np.dtype(dtype).name}", "Cast", [np.array([[ends.min, ends.max], [0, 10]], dtype)], TO_TEXT)
case("cast_text_bool", "Cast", [np.array([True, False])], TO_TEXT)
case("cast_like_text", "CastLike", [FLOATS[:4], np.array(["a"], dtype=object)])


def text(*words):
    return np.array(words, dtype=object)


NUMBERS = text("1.5", "-7", "+3", "1e3", "2.5E-3", ".5", "4.", "300", "0", "-0.0", "123456789", "3.4028235e38", "1e-40")
WHOLE = text("-7", "0", "100", "+3", "  12")
for name in ("FLOAT", "DOUBLE", "FLOAT16"):
    case(f"parse_{name}".lower(), "Cast", [NUMBERS], {"to": getattr(TensorProto, name)}, dyn={0: ["N"]})
    case(f"parse_special_{name}".lower(), "Cast", [text("inf", "-inf", "NaN", "INF", "infinity")], {"to": getattr(TensorProto, name)})
for name in ("INT8", "INT16", "INT32", "INT64"):
    case(f"parse_{name}".lower(), "Cast", [WHOLE], {"to": getattr(TensorProto, name)})
for name in ("UINT8", "UINT16", "UINT32", "UINT64"):
    case(f"parse_{name}".lower(), "Cast", [WHOLE[1:]], {"to": getattr(TensorProto, name)})
case("parse_int64_ends", "Cast", [text("9223372036854775807", "-9223372036854775808")], {"to": TensorProto.INT64})
case("parse_uint64_end", "Cast", [text("18446744073709551615")], {"to": TensorProto.UINT64})

# ---- maps: the order of a map's entries is that in which the case gives them ----------------------------------------------
FLOAT_MAP = {3: 1.5, 1: 2.25, 0: -7.0}
F32 = {k: np.float32(v) for k, v in FLOAT_MAP.items()}
for to in ("TO_FLOAT", "TO_STRING", "TO_INT64"):
    for form in ("DENSE", "SPARSE"):
        attrs = {"cast_to": to, "map_form": form, "max_map": 5}
        case(f"cast_map_{to}_{form}".lower(), "CastMap", [F32], attrs, ML, opset=1)
        case(f"cast_map_beyond_{to}_{form}".lower(), "CastMap", [{7: np.float32(1.5), 5: np.float32(0.25), 1: np.float32(2e-7), 4: np.float32(-1e9)}], attrs, ML, opset=1)
        want = np.array([[-7, 12, 5]]) if form == "DENSE" else np.array([[-7, 12, 0, 5, 0]])
        if to == "TO_STRING":
            want = np.array([["-7", "12", "5"]] if form == "DENSE" else [["-7", "12", "0.f", "5", "0.f"]], dtype=object)
        want = want.astype(np.float32) if to == "TO_FLOAT" else want
        case(f"cast_map_text_{to}_{form}".lower(), "CastMap", [{3: "5", 1: "12", 0: "-7"}], attrs, ML, opset=1, ref=lambda _, want=want: want)
case("cast_map_negative_dense", "CastMap", [{-1: np.float32(1.5), -5: np.float32(2), 1: np.float32(3)}], {"map_form": "DENSE"}, ML, opset=1)

WORDS = {"string_vocabulary": ["c", "b", "a", "longer word"]}
NUMBERED = {"int64_vocabulary": [7, -2, 4]}
case("dict_vectorizer_words", "DictVectorizer", [{"a": np.float32(1), "c": np.float32(2), "z": np.float32(5)}], WORDS, ML, opset=1)
case("dict_vectorizer_numbers", "DictVectorizer", [{4: np.float32(1), -2: np.float32(2), 100: np.float32(3)}], NUMBERED, ML, opset=1)
case("dict_vectorizer_none", "DictVectorizer", [{"y": np.float32(1), "z": np.float32(5)}], WORDS, ML, opset=1)
case("dict_vectorizer_twice", "DictVectorizer", [{"a": np.float32(1), "c": np.float32(2)}], {"string_vocabulary": ["a", "b", "a", "c"]}, ML, opset=1)
case("dict_vectorizer_f64", "DictVectorizer", [{"a": np.float64(0.1), "c": np.float64(2)}], WORDS, ML, opset=1, ref=lambda _: np.array([[2, 0, 0.1, 0]]))
case("dict_vectorizer_i64", "DictVectorizer", [{"a": np.int64(2**60), "c": np.int64(-2)}], WORDS, ML, opset=1, ref=lambda _: np.array([[-2, 0, 2**60, 0]]))
case("dict_vectorizer_strings", "DictVectorizer", [{4: "x", 7: "why"}], NUMBERED, ML, opset=1, ref=lambda _: np.array([["why", "", "x"]], dtype=object))
# Without a word, or when none is left, there is one that is empty.
case("normalize_nothing", "StringNormalizer", [text()], {"case_change_action": "NONE"}, ref=lambda x: text(""))
case("normalize_nothing_row", "StringNormalizer", [text().reshape(1, 0)], {"case_change_action": "UPPER"}, ref=lambda x: text("").reshape(1, 1))
case("normalize_nothing_stop", "StringNormalizer", [text()], {"case_change_action": "LOWER", "stopwords": ["a"]}, ref=lambda x: text(""))
case("normalize_row_open", "StringNormalizer", [text("b", "c").reshape(1, 2)], {"case_change_action": "UPPER"}, dyn={0: ["N", "W"]}, ref=lambda x: text("B", "C").reshape(1, 2))
