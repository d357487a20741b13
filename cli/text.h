// Text that came from anybody's file, on its way to a terminal.
#pragma once
#include <stdio.h>

// Bytes of the control character that begins here (C0, DEL, or C1 in UTF-8); 0 if none does.
int text_control(const char *p);
// '?' in place of every byte of one.
void text_tame(char *text);
// Prints it like that, but for line ends and tabs.
void text_print(FILE *to, const char *text);
