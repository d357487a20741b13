// What every benchmark says of the machine and of its own process.
#pragma once
#include "core/base/threads.h"

double machine_peak_gb(void); // VmHWM of this process, 10⁹ bytes
// A clock for work of the team: one thread's processor time, which a busy machine disturbs less, or else the
// wall clock.
double machine_seconds(const team *t);

// A heading of Markdown and below it the processor, its instruction sets and the number of threads: the head
// of each table.
void machine_head(const char *title, const team *t);

// Says why on stderr and ends the program.
_Noreturn void machine_die(const char *why);
