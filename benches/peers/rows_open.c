#include "rows.h"
void open_rows(void) {}
void run_child(char **a) {(void)a;}
