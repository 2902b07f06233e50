/* The structs as a C and a C++ compiler lay them out are those of layout.def; a unit test of the library holds its own
 * structs against the same file. For 64-bit pointers. */
#include <stddef.h>

#include "batpak.h"

#ifdef __cplusplus
#define IS_SO(condition, message) static_assert(condition, message)
#else
#define IS_SO(condition, message) _Static_assert(condition, message)
#endif

#define TYPE(type, size) IS_SO(sizeof(type) == size, "size of " #type);
#define MEMBER(type, member, offset) IS_SO(offsetof(type, member) == offset, "offset of " #type "." #member);

#include "layout.def"

int main(void) {
    return 0;
}
