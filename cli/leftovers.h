// Files that a killed process did not finish.
#pragma once

// Removes from a folder, and from folders in it so many levels down, what the library had begun to write
// (.calotype-X.tmp, core/base/fs.h; files, and folders with all that is in them) in processes that are no
// more: their locks are gone. What cannot be removed stays.
void leftovers_remove(const char *dir, int levels);
// The same for the folder that `path` is in.
void leftovers_remove_beside(const char *path, int levels);
