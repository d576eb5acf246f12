# Emitted C without an operating system: compiled with -ffreestanding, it may want nothing but memory moves and math.h.
source "$(dirname "$0")/common.bash"
needs nm
"$lathe" compile "$model/fashion.onnx" -o fashion.c --weights embed --target generic 2> /dev/null > compile.log
"$CC" -std=c11 -O2 -ffreestanding -c fashion.c -o fashion.o
nm --undefined-only fashion.o | awk '{ print $NF }' | sort > wanted.txt
libm='sqrt|floor|ceil|trunc|rint|nearbyint|round|fma|fmax|fmin|fabs|fmod|copysign|ldexp|exp|exp2|expm1|log|log2|log1p|pow|erf|sin|cos|tan|asin|acos|atan|atan2|sinh|cosh|tanh|asinh|acosh|atanh'
grep -vxE "memcpy|memmove|memset|memcmp|_GLOBAL_OFFSET_TABLE_|($libm)f?" wanted.txt > surprising.txt || true
if [ -s surprising.txt ]; then echo "the object wants:"; cat surprising.txt; exit 1; fi
