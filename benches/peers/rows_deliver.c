#include "rows.h"
void deliver_rows(void) {}
