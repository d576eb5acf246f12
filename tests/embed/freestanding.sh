# Emitted C without an operating system: compiled with -ffreestanding, it may want nothing but memory moves and libm.
source "$(dirname "$0")/common.bash"
needs nm
"$lathe" compile "$model/fashion.onnx" -o fashion.c --weights embed --target generic 2> /dev/null > compile.log
"$CC" -std=c11 -O2 -ffreestanding -c fashion.c -o fashion.o
nm --undefined-only fashion.o | awk '{ print $NF }' | sort > wanted.txt
grep -vxE 'memcpy|memmove|memset|memcmp|_GLOBAL_OFFSET_TABLE_|(sqrt|floor|ceil|trunc|rint|fma|fmax|fmin|fabs|copysign|ldexp)f?' wanted.txt > surprising.txt || true
if [ -s surprising.txt ]; then echo "the object wants:"; cat surprising.txt; exit 1; fi
