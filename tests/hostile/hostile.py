#!/usr/bin/env python3
"""Extreme values into emitted code: every run must end with the stated result or error code, and no sanitizer report.

    hostile.py LATHE CC WORK_FOLDER CASE_FILE... [--only REGEX] [--jobs N]

A case file holds modules in IR text, each followed by runs:

    case gather
    dim N = 0..4
    graph @main(%x: f32[N,3], %i: i64[2]) -> (%y) {
        %y = Gather(%x, %i)   @"rows"
    }
    run x[4,3]=iota i=0,-1 -> y=0,1,2,9,10,11
    run x[4,3]=iota i=4,MIN -> index "rows"
    run x[0,3]= i=0,0 -> index "rows"

Inputs are NAME[dims]=values; without dims they are those of the type. Values: numbers, MAX and MIN of the type, nan, inf,
-inf, V*K (K times V), iota (0, 1, 2 …); 'a','b' for strings. Expected is `ok` (any result without a report), outputs as
NAME=values or NAME[dims]=values, or the kind of an error (argument, shape, index, bound, value) with the node that
the model's NAME_error must name. A run may have several expectations separated by `|`: any of them is right.

All modules are compiled by LATHE and built by CC with AddressSanitizer and UBSan; every run is a process. Inputs,
outputs and the arena have exactly the size that the header promises, so that the first byte behind them is seen.
"""
import argparse
import concurrent.futures
import math
import pathlib
import re
import shlex
import struct
import subprocess
import sys

KINDS = {"argument": 1, "shape": 2, "index": 3, "bound": 4, "weights": 5, "value": 6}
FORMATS = {"f32": "f", "f64": "d", "f16": "e", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q", "bool": "B"}
CTYPES = {"float": "f32", "double": "f64", "int8_t": "i8", "uint8_t": "u8", "int16_t": "i16", "uint16_t": "u16", "int32_t": "i32", "uint32_t": "u32", "int64_t": "i64", "uint64_t": "u64"}

MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef int Call(const void *const *in, const int64_t *dims, void *const *out, int64_t *out_dims, const char **text);
static Call *const calls[];
static void *block(FILE *f, int64_t n) { /* of exactly n bytes; none for none */
    void *p = n != 0 ? malloc((size_t)n) : NULL;
    if (n != 0 && fread(p, 1, (size_t)n, f) != (size_t)n) exit(90);
    return p;
}
static int64_t number(FILE *f) {
    int64_t n;
    if (fread(&n, sizeof n, 1, f) != 1) exit(90);
    return n;
}
int main(int argc, char **argv) {
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (f == NULL) return 90;
    int64_t which = number(f), n_in = number(f), n_out, n_dim;
    const void *in[32];
    void *out[32];
    for (int64_t i = 0; i < n_in; i++) {
        int64_t strings = number(f), n = number(f);
        if (!strings) { in[i] = block(f, n); continue; }
        const char **list = n != 0 ? malloc((size_t)n * sizeof *list) : NULL;
        for (int64_t k = 0; k < n; k++) list[k] = block(f, number(f));
        in[i] = list;
    }
    n_dim = number(f);
    int64_t *dims = block(f, 8 * n_dim);
    n_out = number(f);
    int64_t out_bytes[32];
    for (int64_t i = 0; i < n_out; i++) {
        out_bytes[i] = number(f);
        out[i] = out_bytes[i] != 0 ? malloc((size_t)out_bytes[i]) : NULL;
        if (out[i] != NULL) memset(out[i], 0x5A, (size_t)out_bytes[i]);
    }
    int64_t n_out_dim = number(f);
    int64_t *out_dims = calloc((size_t)n_out_dim + 1, 8);
    fclose(f);
    const char *text;
    int code = calls[which](in, dims, out, out_dims, &text);
    printf("%d\n%s\n", code, text);
    for (int64_t i = 0; i < n_out_dim; i++) printf("%lld ", (long long)out_dims[i]);
    printf("\n");
    for (int64_t i = 0; i < n_out; i++, printf("\n"))
        for (int64_t k = 0; k < out_bytes[i]; k++) printf("%02x", ((unsigned char *)out[i])[k]);
    return 0;
}
"""

GLUE = r"""
#include <stdlib.h>
#include "{n}.c"
int call_{n}(const void *const *in, const int64_t *dims, void *const *out, int64_t *out_dims, const char **text);
int call_{n}(const void *const *in, const int64_t *dims, void *const *out, int64_t *out_dims, const char **text)
{{
    {n}_ctx ctx;
    void *arena = NULL;
    if ({u}_ARENA_BYTES != 0 && posix_memalign(&arena, {u}_ALIGN, {u}_ARENA_BYTES) != 0) abort();
    if (arena != NULL) memset(arena, 0xA5, {u}_ARENA_BYTES);
    int code = {n}_init(&ctx, arena, {u}_ARENA_BYTES, NULL, 0);
    if (code == 0) code = {n}_call(&ctx, in, dims, out, out_dims);
    *text = {n}_error(code);
    free(arena);
    return code;
}}
"""


class Case:
    def __init__(self, name, where):
        self.name, self.where, self.text, self.runs, self.inputs, self.outputs, self.errors = name, where, "", [], [], [], []


def read_cases(path):
    cases = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        if line.startswith("case "):
            cases.append(Case(f"{path.stem}.{line[5:].strip()}", f"{path.name}:{number}"))
        elif line.startswith("run "):
            given, expected = line[4:].rsplit(" -> ", 1) if " -> " in line else sys.exit(f"{path}:{number}: no ->")
            cases[-1].runs.append((number, given, expected))
        elif line.startswith("refused "):
            cases[-1].errors.append(line[8:].strip())
        elif cases:
            cases[-1].text += line + "\n"
    return cases


def split_top(text):
    parts, depth, at = [], 0, ""
    for c in text:
        depth += (c in "[(") - (c in "])")
        if c == "," and depth == 0:
            parts.append(at)
            at = ""
        else:
            at += c
    return [p.strip() for p in parts + [at] if p.strip()]


def number_of(token, dtype):
    if dtype in FORMATS and FORMATS[dtype] in "bBhHiIqQ":
        bits = 8 * struct.calcsize(FORMATS[dtype])
        signed = FORMATS[dtype].islower()
        if token == "MAX":
            return 2 ** (bits - signed) - 1
        if token == "MIN":
            return -(2 ** (bits - 1)) if signed else 0
        return int(token, 0)
    if token in ("MAX", "MIN"):
        return {"f32": 3.4028234663852886e38, "f64": sys.float_info.max, "f16": 65504.0}[dtype] * (1 if token == "MAX" else -1)
    return float(token)


def values_of(text, dtype, count):
    if text == "iota":
        return [v if dtype != "bool" else v % 2 for v in range(count)]
    values = []
    for token in text.split(",") if text else []:
        value, _, times = token.partition("*")
        values += [value[1:-1].encode() if dtype == "str" else number_of(value, dtype)] * int(times or 1)
    return values


def dims_of(text, maximum):
    names = {k: v for k, v in maximum.items()}
    names.update(floordiv=lambda a, b: a // b, mod=lambda a, b: a % b, min=min, max=max)
    return [int(eval(d, {"__builtins__": {}}, names)) for d in split_top(text)]


def compile_case(options, case, n):
    (options.work / f"{n}.lir").write_text(case.text)
    command = [options.lathe, "compile", f"{n}.lir", "-o", f"{n}.c", "--name", n, "--weights", "embed", *options.lathe_flag]
    run = subprocess.run(command, cwd=options.work, capture_output=True, text=True)
    if case.errors:
        return None if run.returncode == 1 and all(e in run.stderr for e in case.errors) else f"expected to be refused with {case.errors}: {run.stderr.strip()}"
    if run.returncode != 0:
        return "does not compile: " + run.stderr.strip()
    header = (options.work / f"{n}.h").read_text()
    maximum = {}
    for name, value in re.findall(rf"#define {n.upper()}_MAX_(\w+) (\d+)", header):
        maximum[name] = int(value)
    for which, list_ in (("inputs", case.inputs), ("outputs", case.outputs)):
        body = re.search(rf"typedef struct {n}_{which} \{{(.*?)\}}", header, re.S).group(1)
        for ctype, field, dtype, dims in re.findall(r"([\w ]+?) ?\*(\w+); /\* (\w+)\[(.*?)\],? ", body):
            upper = {}
            for symbol in re.findall(r"[A-Za-z_]\w*", dims):
                if symbol.upper() in maximum:
                    upper[symbol] = maximum[symbol.upper()]
            list_.append((field, dtype, dims_of(dims, upper) if which == "outputs" or not upper else [d for d in split_top(dims)], dims))
    (options.work / f"u{n}.c").write_text(GLUE.format(n=n, u=n.upper()))
    flags = shlex.split(options.flags)
    run = subprocess.run([*shlex.split(options.cc), *flags, "-c", f"u{n}.c", "-o", f"u{n}.o"], cwd=options.work, capture_output=True, text=True)
    return None if run.returncode == 0 else "the C compiler fails: " + run.stderr.strip()[:600]


def pack(values, dtype):
    return struct.pack(f"<{len(values)}{FORMATS[dtype]}", *values)


def parse_given(case, text):
    given = {}
    for item in text.split():
        m = re.fullmatch(r"(\w+)(?:\[([\d,]*)\])?=(.*)", item)
        if m is None:
            raise ValueError(f"cannot read {item}")
        given[m[1]] = ([int(d) for d in m[2].split(",") if d] if m[2] is not None else None, m[3])
    return given


def write_run(path, index, case, text):
    given = parse_given(case, text)
    blob, all_dims = struct.pack("<qq", index, len(case.inputs)), []
    for name, dtype, dims, _ in case.inputs:
        shape, values = given.pop(name)
        shape = shape if shape is not None else [int(d) for d in dims]
        count = math.prod(shape)
        data = values_of(values, dtype, count)
        if len(data) != count:
            raise ValueError(f"{name} has {len(data)} values, {count} expected")
        all_dims += shape
        if dtype == "str":
            blob += struct.pack("<qq", 1, count) + b"".join(struct.pack("<q", len(s) + 1) + s + b"\0" for s in data)
        else:
            data = pack(data, dtype)
            blob += struct.pack("<qq", 0, len(data)) + data
    if given:
        raise ValueError(f"no inputs {list(given)}")
    blob += struct.pack("<q", len(all_dims)) + struct.pack(f"<{len(all_dims)}q", *all_dims)
    blob += struct.pack("<q", len(case.outputs))
    for _, dtype, dims, _ in case.outputs:
        size = 8 if dtype == "str" else struct.calcsize(FORMATS[dtype])
        blob += struct.pack("<q", math.prod(dims) * size)
    blob += struct.pack("<q", sum(len(o[2]) for o in case.outputs))
    path.write_bytes(blob)


def same(a, b, dtype):
    if isinstance(b, float) and math.isnan(b):
        return math.isnan(a)
    if dtype in ("f32", "f64", "f16") and not math.isinf(b):
        return abs(a - b) <= 1e-5 * max(1, abs(b))
    return a == b


def judge(case, expected, code, text, out_dims, data):
    """None when the outcome is the expected one, else what it was."""
    expected = expected.strip()
    words = expected.split()
    kind = KINDS.get(words[0])
    if expected == "ok":
        return None
    if kind is not None:
        node = expected[len(words[0]) :].strip().strip('"')
        good = code % 16 == kind and (not node or f'"{node}"' in text)
        return None if good else f"code {code}: {text}"
    if code != 0:
        return f"code {code}: {text}"
    wanted = parse_given(case, expected)
    at = 0
    for (name, dtype, dims, _), hexed in zip(case.outputs, data):
        shape = out_dims[at : at + len(dims)]
        at += len(dims)
        if name not in wanted:
            continue
        want_shape, values = wanted.pop(name)
        if want_shape is not None and want_shape != shape:
            return f"{name} has the shape {shape}"
        count = math.prod(shape)
        got = struct.unpack_from(f"<{count}{FORMATS[dtype]}", bytes.fromhex(hexed))
        want = values_of(values, dtype, count)
        if len(want) != count or not all(same(a, b, dtype) for a, b in zip(got, want)):
            return f"{name} is {list(got)[:24]} of shape {shape}"
    return f"no outputs {list(wanted)}" if wanted else None


def check_run(options, case, index, number, given, expected):
    path = options.work / f"run{index}_{number}.bin"
    try:
        write_run(path, index, case, given)
    except (ValueError, KeyError) as problem:
        return f"{problem!r}"
    try:
        run = subprocess.run([options.work / "hostile", path], capture_output=True, text=True, timeout=30, env={"ASAN_OPTIONS": "detect_leaks=0"})
    except subprocess.TimeoutExpired:
        return "does not end"
    if run.returncode != 0:
        report = [l for l in run.stderr.splitlines() if "runtime error" in l or "ERROR: AddressSanitizer" in l]
        frames = [l.strip() for l in run.stderr.splitlines() if l.lstrip().startswith(("#0", "#1"))]
        return f"exit code {run.returncode}: {(report or ['no report'])[0]} {' '.join(frames[:2])}"
    lines = run.stdout.split("\n")
    results = [judge(case, e, int(lines[0]), lines[1], [int(d) for d in lines[2].split()], lines[3:]) for e in expected.split("|")]
    return None if None in results else results[0]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("lathe")
    ap.add_argument("cc")
    ap.add_argument("work", type=pathlib.Path)
    ap.add_argument("files", nargs="+", type=pathlib.Path)
    ap.add_argument("--only", default="")
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--flags", default="-O1 -g1 -w -fno-math-errno -fsanitize=address,undefined -fno-sanitize-recover=undefined -DLATHE_NO_STATIC_ARENA")
    ap.add_argument("--lathe-flag", action="append", default=[])
    options = ap.parse_args()
    options.lathe = pathlib.Path(options.lathe).resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    options.work = options.work.resolve()
    cases = [c for path in options.files for c in read_cases(path) if re.search(options.only, c.name)]
    failed = 0

    def fail(where, problem):
        nonlocal failed
        failed += 1
        print(f"FAIL {where}: {problem}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        problems = list(pool.map(lambda p: compile_case(options, p[1], f"h{p[0]}"), enumerate(cases)))
    built = []
    for i, (case, problem) in enumerate(zip(cases, problems)):
        if problem:
            fail(f"{case.where} {case.name}", problem)
        elif not case.errors:
            built.append(i)
    text = MAIN.replace("static Call *const calls[];", "".join(f"Call call_h{i};\n" for i in built) + "static Call *const calls[] = {" + "".join(f"[{i}] = call_h{i}, " for i in built) + "NULL};")
    (options.work / "main.c").write_text(text)
    flags = shlex.split(options.flags)
    run = subprocess.run([*shlex.split(options.cc), *flags, "main.c", *[f"uh{i}.o" for i in built], "-o", "hostile", "-lm"], cwd=options.work, capture_output=True, text=True)
    if run.returncode != 0:
        print(run.stderr)
        return 1
    jobs = [(cases[i], i, *r) for i in built for r in cases[i].runs]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for (case, _, number, given, expected), problem in zip(jobs, pool.map(lambda j: check_run(options, *j), jobs)):
            if problem:
                fail(f"{case.where.split(':')[0]}:{number} {case.name}: {given} -> {expected}", problem)
    print(f"{len(cases)} models, {len(jobs)} runs, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
