/* Windows from stdin; to stdout forecasts, mended windows and the guard's flags. Every buffer is as large as it says,
   at the least alignment that its type has. DECIDE: see `sanitizers`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"
enum { WINDOW = MODEL_CONTEXT * MODEL_CHANNELS, FORECAST = MODEL_HORIZON * MODEL_TARGETS };
int main(void) {
    int16_t *counts = (int16_t *)malloc(sizeof(int16_t) * (WINDOW + 1)) + 1, mended[WINDOW];
    int16_t *forecast = (int16_t *)malloc(sizeof(int16_t) * (FORECAST + 1)) + 1;
    char *memory = (char *)malloc(MODEL_WORKSPACE + 4) + 4;
    uint8_t flags[MODEL_CHANNELS];
    while (fread(counts, sizeof(int16_t), WINDOW, stdin) == WINDOW) {
        model_forecast(counts, forecast, memory);
        DECIDE
        memcpy(mended, counts, sizeof mended);
#if MODEL_CHANNELS == 1
        flags[0] = model_guard(mended);
#else
        model_guard(mended, flags);
#endif
        fwrite(forecast, sizeof(int16_t), FORECAST, stdout);
        fwrite(mended, sizeof(int16_t), WINDOW, stdout);
        fwrite(flags, 1, MODEL_CHANNELS, stdout);
    }
    return fflush(stdout);
}
