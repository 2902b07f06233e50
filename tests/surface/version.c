/* The macros of the header and the functions of the library tell the same version. */
#include <stdio.h>
#include <string.h>

#include "batpak.h"

int main(void) {
    char text[40];
    snprintf(text, sizeof text, "%u.%u.%u", BATPAK_VERSION_MAJOR, BATPAK_VERSION_MINOR, BATPAK_VERSION_PATCH);
    if (strcmp(text, BATPAK_VERSION_STRING) != 0 || strcmp(text, batpak_version_string()) != 0) {
        fprintf(stderr, "version: %s, %s and %s\n", text, BATPAK_VERSION_STRING, batpak_version_string());
        return 1;
    }
    if (BATPAK_VERSION_NUMBER != BATPAK_VERSION_MAJOR * 1000000 + BATPAK_VERSION_MINOR * 1000 + BATPAK_VERSION_PATCH ||
        BATPAK_VERSION_NUMBER != batpak_version_number()) {
        fprintf(stderr, "version number: %u and %u\n", BATPAK_VERSION_NUMBER, batpak_version_number());
        return 1;
    }
    if (batpak_check_abi(BATPAK_ABI_VERSION, NULL) != BATPAK_OK ||
        batpak_check_abi(BATPAK_ABI_VERSION + 1, NULL) != BATPAK_E_UNSUPPORTED) {
        fprintf(stderr, "batpak_check_abi\n");
        return 1;
    }
    printf("surface: version: %s, macros and functions alike\n", text);
    return 0;
}
