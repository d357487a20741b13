// Doors that fail on request. The linker sends the library's calls for memory and files here (--wrap, see
// tests/meson.build), so the library itself knows nothing of it; jansson's allocator is set to the same door.
// Not for several threads: jobs under test run with one.
#pragma once
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    FAULT_MEMORY, // an allocation gives NULL
    FAULT_EIO,    // a call that touches files fails
    FAULT_ENOSPC, // a call that needs room on the disk fails
    FAULT_EINTR,  // a call that a signal may interrupt is interrupted
    FAULT_SHORT,  // a read or write moves half of what was asked for
    FAULT_KINDS
} fault_kind;

// Before any other: the counts are shared with the child processes that are made afterwards.
void faults_share(void);
// From now on calls through this kind's door are counted, and call number `at` fails (from 0; -1: none).
void faults_arm(fault_kind kind, long at);
// Nothing fails any more. Returns the calls counted; *hit tells whether one failed.
long faults_disarm(bool *hit);
// Whether one failed since faults_arm.
bool faults_hit(void);
// For doors elsewhere: a call that may need memory. Whether it is to fail.
bool faults_memory(const char *door);
// jansson keeps its own memory from now on. Elsewhere the process ends when that fails.
void faults_spare_json(void);
// "write", "allocation", ...: the door that the last fault came through.
const char *faults_door(void);

// Like faults_arm(kind, -1), and remembers the first and the last call of each distinct call stack:
// faults_stacks gives how many calls that are and writes their numbers, ascending, to at most `room` places.
void faults_record(fault_kind kind);
size_t faults_stacks(long *at, size_t room);
