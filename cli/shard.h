// Which part of the jobs is this process's: from --shard, or from what a cluster's launcher says.
#pragma once
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    long rank, count; // job k belongs to rank k mod count, counted from 0
} shard;

// `text`: "i/n" counted from 1; "/n", where the environment says which of the n; NULL: as the environment
// says, or everything. Array tasks of Slurm and indices of Kubernetes are the outer counter, the ranks of MPI
// or srun the inner one. On failure `message` names what is wrong and -1 is returned.
int shard_choose(const char *text, shard *s, char *message, size_t size);
