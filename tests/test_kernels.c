#include "core/cpu/kernels.h"
#include <criterion/criterion.h>
Test(kernels, levels) { cr_assert(cpu_kernels_for(CPU_BASE)); }
