/* How far a forecast lies from what came: each error in sixteenths of its mean magnitude on sound rows, at most 128 of
   them, squared. */
static int64_t judged(const int16_t *counts, const int16_t *forecast, const uint16_t *weight, int rows, int channels) {
    int64_t score = 0;
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < channels; c++) {
            int32_t error = *forecast++ - *counts++; /* 16 bits and a sign, times 16 bits: no more than 32 */
            uint32_t units = (uint32_t)(error < 0 ? -error : error) * weight[c] >> 12;
            units = units > 128 ? 128 : units;
            score += units * units;
        }
    return score;
}
