"""ai.onnx.ml: scalers, encoders, linear models, support vectors, trees."""
import itertools

import numpy as np

from suite import ML, case, f32, rng

X = f32(7, 4)
NAN = X.copy()
NAN[1, 2] = NAN[3, 0] = np.nan
for name, x in (("f32", X), ("f64", X.astype(np.float64)), ("i64", (X * 3).astype(np.int64)), ("i32", (X * 3).astype(np.int32))):
    dyn = {0: ["N", 4]} if name == "f32" else None
    case(f"scaler_{name}", "Scaler", [x], {"offset": [0.5, 1.0, -1.0, 2.0], "scale": [2.0, 3.0, 0.5, 1.0]}, ML, dyn=dyn)
    case(f"scaler_one_{name}", "Scaler", [x], {"offset": [0.5], "scale": [2.0]}, ML)
    for norm in ("MAX", "L1", "L2"):
        case(f"normalizer_{norm}_{name}".lower(), "Normalizer", [x], {"norm": norm}, ML, dyn=dyn)
case("normalizer_zero_row", "Normalizer", [np.zeros((2, 3), np.float32)], {"norm": "L1"}, ML)
case("binarizer", "Binarizer", [X], {"threshold": 0.25}, ML, dyn={0: ["N", 4]})
case("imputer_nan", "Imputer", [NAN], {"imputed_value_floats": [1.0, 2.0, 3.0, 4.0], "replaced_value_float": float("nan")}, ML)
case("imputer_one", "Imputer", [NAN], {"imputed_value_floats": [9.0], "replaced_value_float": float("nan")}, ML)
case("imputer_value", "Imputer", [np.float32([[1, 2], [2, 3]])], {"imputed_value_floats": [7.0, 8.0], "replaced_value_float": 2.0}, ML)
case("imputer_i64", "Imputer", [np.int64([[1, 2], [2, 3]])], {"imputed_value_int64s": [7, 8], "replaced_value_int64": 2}, ML)
case("feature_vectorizer", "FeatureVectorizer", [f32(3, 2), f32(3, 4)], {"inputdimensions": [2, 4]}, ML)
case("one_hot_ints", "OneHotEncoder", [np.int64([[1, 3], [2, 9]])], {"cats_int64s": [1, 2, 3], "zeros": 1}, ML)
case("one_hot_floats", "OneHotEncoder", [np.float32([1, 3, 2])], {"cats_int64s": [1, 2, 3], "zeros": 1}, ML)
case("one_hot_strings", "OneHotEncoder", [np.array(["b", "x", "a"], object)], {"cats_strings": ["a", "b"], "zeros": 1}, ML)
case("category_mapper_to_int", "CategoryMapper", [np.array([["b", "x"], ["a", "b"]], object)], {"cats_strings": ["a", "b"], "cats_int64s": [7, 9], "default_int64": -3}, ML, opset=1)
case("category_mapper_to_string", "CategoryMapper", [np.int64([9, 7, 5])], {"cats_strings": ["a", "b"], "cats_int64s": [7, 9], "default_string": "?"}, ML, opset=1)
case("label_encoder_strings", "LabelEncoder", [np.array(["b", "x", "a"], object)], {"keys_strings": ["a", "b"], "values_int64s": [1, 2], "default_int64": -1}, ML, opset=2)
case("label_encoder_floats", "LabelEncoder", [np.float32([1, 2, np.nan])], {"keys_floats": [1.0, float("nan")], "values_floats": [5.0, 6.0], "default_float": -1.0}, ML, opset=2,
     ref=lambda x: np.float32([5, -1, 6]))  # keys are compared bit by bit
case("label_encoder_ints", "LabelEncoder", [np.int64([1, 2, 3])], {"keys_int64s": [1, 3], "values_strings": ["one", "three"], "default_string": "no"}, ML, opset=2)
case("array_feature_extractor", "ArrayFeatureExtractor", [X, np.int64([0, 2])], {}, ML)

POST = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
for targets, post in itertools.product((1, 3), POST):
    if post == "PROBIT" and targets == 3:
        continue
    w = f32(targets, 4, seed=5)
    x = X * 0.1 if post == "PROBIT" else X
    b = np.full(targets, 0.5) if post == "PROBIT" else np.arange(targets) * 0.5
    w = w * 0.05 if post == "PROBIT" else w
    case(f"linear_regressor_{targets}_{post}".lower(), "LinearRegressor", [x], {"coefficients": w.ravel().tolist(), "intercepts": b.tolist(), "targets": targets, "post_transform": post}, ML,
         dyn={0: ["N", 4]} if post == "NONE" else None)
case("linear_regressor_no_intercept", "LinearRegressor", [X], {"coefficients": [1.0, 2.0, 3.0, 4.0]}, ML)
for classes, post in itertools.product((1, 2, 3), POST[:4]):
    w = f32(classes, 4, seed=6)
    labels = {"classlabels_ints": list(range(10, 10 + max(classes, 2)))} if post != "LOGISTIC" else {"classlabels_strings": ["a", "b", "c"][: max(classes, 2)]}
    case(f"linear_classifier_{classes}_{post}".lower(), "LinearClassifier", [X],
         {"coefficients": w.ravel().tolist(), "intercepts": (np.arange(classes) * 0.25).tolist(), "post_transform": post, "multi_class": int(classes > 2), **labels}, ML, n_out=2,
         dyn={0: ["N", 4]} if post == "NONE" else None)
case("linear_classifier_i64", "LinearClassifier", [np.int64([[1, 2], [3, -4]])], {"coefficients": [1.0, -1.0, 0.5, 2.0, 0.0, 1.0], "intercepts": [0.0, 0.1, 0.2], "classlabels_ints": [0, 1, 2]}, ML, n_out=2)

SV = f32(5, 4, seed=3)
for kernel, post in itertools.product(("LINEAR", "POLY", "RBF", "SIGMOID"), ("NONE", "LOGISTIC")):
    case(f"svm_regressor_{kernel}_{post}".lower(), "SVMRegressor", [X],
         {"coefficients": [0.5, -1.0, 0.25, 0.75, -0.5], "kernel_params": [0.3, 0.5, 2.0], "kernel_type": kernel, "n_supports": 5, "post_transform": post, "rho": [0.2],
          "support_vectors": SV.ravel().tolist()}, ML, dyn={0: ["N", 4]} if post == "NONE" else None)
case("svm_regressor_linear_model", "SVMRegressor", [X], {"coefficients": [0.5, -1.0, 0.25, 0.75], "kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 3.0], "rho": [0.2]}, ML)
case("svm_regressor_one_class", "SVMRegressor", [X], {"coefficients": [0.5, -1.0, 0.25, 0.75, -0.5], "kernel_params": [0.3, 0.0, 3.0], "kernel_type": "RBF", "n_supports": 5, "one_class": 1,
                                                       "rho": [0.1], "support_vectors": SV.ravel().tolist()}, ML)


def svm(name, per_class, kernel="RBF", prob=False, strings=False, post="NONE", dyn=None, x=X, ref="ort"):
    classes, n = len(per_class), sum(per_class)
    pairs = classes * (classes - 1) // 2
    attrs = {"coefficients": f32(classes - 1, n, seed=11).ravel().tolist(), "kernel_params": [0.3, 0.5, 2.0], "kernel_type": kernel, "post_transform": post,
             "rho": f32(pairs, seed=2).tolist(), "support_vectors": f32(n, 4, seed=12).ravel().tolist(), "vectors_per_class": per_class}
    if prob:
        attrs["prob_a"] = (-np.abs(f32(pairs, seed=4)) - 0.5).tolist()
        attrs["prob_b"] = f32(pairs, seed=5, scale=0.1).tolist()
    attrs["classlabels_strings" if strings else "classlabels_ints"] = ["a", "b", "c", "d"][:classes] if strings else [3, 1, 4, 5][:classes]
    case(f"svm_classifier_{name}", "SVMClassifier", [x], attrs, ML, n_out=2, dyn=dyn, ref=ref)


svm("binary", [3, 4])
svm("binary_prob", [3, 4], prob=True)
svm("binary_strings", [2, 3], strings=True, kernel="POLY")
svm("binary_logistic", [2, 3], post="LOGISTIC")
svm("binary_softmax", [2, 3], post="SOFTMAX", ref="onnx")
svm("three", [3, 2, 4], dyn={0: ["N", 4]})
svm("three_linear", [3, 2, 4], kernel="LINEAR")
svm("three_prob", [3, 2, 4], prob=True, dyn={0: ["N", 4]})
svm("four_prob", [2, 2, 3, 2], prob=True, kernel="SIGMOID", strings=True)
svm("three_softmax", [3, 2, 4], post="SOFTMAX")
svm("four_softmax_zero", [2, 2, 3, 2], post="SOFTMAX_ZERO")
svm("f64", [3, 2, 4], x=X.astype(np.float64))
svm("i64", [3, 2, 4], x=(X * 2).astype(np.int64))
for post, classes in itertools.product(("NONE", "SOFTMAX", "LOGISTIC"), (2, 3)):
    case(f"svm_classifier_no_vectors_{classes}_{post}".lower(), "SVMClassifier", [X],
         {"coefficients": f32(classes, 4, seed=8).ravel().tolist(), "kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 3.0], "post_transform": post, "rho": [0.3], "classlabels_ints": list(range(classes))}, ML, n_out=2,
         ref="onnx" if classes == 2 else "ort")


def tree(ids, targets, weights, **more):
    """Two trees of depth 2 over 4 features; leaf k gives weights[k]."""
    n = {"nodes_treeids": [0] * 5 + [1] * 5, "nodes_nodeids": list(range(5)) * 2, "nodes_featureids": [0, 1, 0, 0, 0, 2, 3, 0, 0, 0], "nodes_values": [0.1, -0.2, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0],
         "nodes_modes": ["BRANCH_LEQ", "BRANCH_LT", "LEAF", "LEAF", "LEAF", "BRANCH_GTE", "BRANCH_GT", "LEAF", "LEAF", "LEAF"], "nodes_truenodeids": [1, 2, 0, 0, 0] * 2,
         "nodes_falsenodeids": [4, 3, 0, 0, 0] * 2, "nodes_missing_value_tracks_true": [0, 1, 0, 0, 0] * 2}
    leaf = [2, 3, 4] * 2
    tid = [0] * 3 + [1] * 3
    return {**n, f"{ids}_treeids": tid, f"{ids}_nodeids": leaf, f"{ids}_ids": targets, f"{ids}_weights": weights, **more}


W = [0.5, -1.0, 2.0, 0.25, 1.5, -0.75]
for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
    case(f"tree_regressor_{aggregate}".lower(), "TreeEnsembleRegressor", [NAN], tree("target", [0] * 6, W, n_targets=1, aggregate_function=aggregate), ML, dyn={0: ["N", 4]} if aggregate == "SUM" else None)
case("tree_regressor_targets", "TreeEnsembleRegressor", [X], tree("target", [0, 1, 0, 1, 0, 1], W, n_targets=2, base_values=[0.5, 1.0]), ML, ref="onnx")
for post in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"):
    case(f"tree_classifier_three_{post}".lower(), "TreeEnsembleClassifier", [X], tree("class", [0, 1, 2, 2, 1, 0], np.abs(W).tolist(), classlabels_int64s=[5, 6, 7], post_transform=post), ML, n_out=2)
    case(f"tree_classifier_binary_{post}".lower(), "TreeEnsembleClassifier", [X], tree("class", [0] * 6, W, classlabels_int64s=[0, 1], post_transform=post), ML, n_out=2)
case("tree_classifier_strings", "TreeEnsembleClassifier", [X.astype(np.float64)], tree("class", [0, 1, 2, 2, 1, 0], np.abs(W).tolist(), classlabels_strings=["a", "b", "c"]), ML, n_out=2)

case("zip_map", "ZipMap", [X], {"classlabels_strings": ["a", "b", "c", "d"]}, ML, opset=1, ref=lambda x: x)
