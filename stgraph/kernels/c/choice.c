/* The budget: which come first. */

#include "rows.h"

/* Bits of a number that are looked at in one pass. */
#define DIGIT 11
#define DIGITS 6

/* Numbers that ascend as doubles do, −0 and 0 being equal. */
static uint64_t ordered(double value)
{
    uint64_t bits;
    value += 0.0;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

/* The k-th largest of some numbers, k ≥ 1: digit by digit from the highest, in as many passes, each over what the one
 * before has left. The numbers end in another order. */
static uint64_t kth_largest(uint64_t *key, int64_t count, int64_t k)
{
    for (int digit = DIGITS - 1; digit >= 0 && count > 1; digit--) {
        int64_t many[1 << DIGIT] = {0}, left = 0;
        for (int64_t i = 0; i < count; i++)
            many[key[i] >> digit * DIGIT & ((1 << DIGIT) - 1)]++;
        uint64_t value = (1 << DIGIT) - 1;
        for (; many[value] < k; value--)
            k -= many[value];
        for (int64_t i = 0; i < count; i++)
            if ((key[i] >> digit * DIGIT & ((1 << DIGIT) - 1)) == value)
                key[left++] = key[i];
        count = left;
    }
    return key[0];
}

/* Which `budget` of some items come first: by tier, then by importance, the larger first, then by index. `cut` becomes
 * the importance of the last of them, or of the very first where the budget is 0. Returns 0, or 1 when there is no
 * memory. */
int64_t EXPORT(first_of)(const double *importance, const uint8_t *tier, int64_t count, int64_t budget, uint8_t *best,
                         double *cut)
{
    int64_t of_tier[256] = {0};
    uint64_t *key = malloc((2 * count + 1) * sizeof *key), *left = key + count, last = UINT64_MAX;
    if (!key)
        return 1;
    for (int64_t i = 0; i < count; i++)
        of_tier[tier[i]]++;
    int level = 255;
    while (level && (!of_tier[level] || of_tier[level] < budget)) /* these are all among the first */
        budget -= of_tier[level--];
    int64_t here = 0;
    for (int64_t i = 0; i < count; i++) { /* without a branch, which nobody could foresee */
        left[here] = key[i] = ordered(importance[i]);
        here += tier[i] == level;
    }
    if (here)
        last = kth_largest(left, here, larger(budget, 1));
    int64_t equal = budget;
    for (int64_t i = 0; i < count; i++) {
        const int first = (tier[i] == level) & (key[i] > last) & (budget > 0);
        best[i] = (tier[i] > level) | first;
        equal -= first;
    }
    for (int64_t i = 0; i < count; i++)
        if (tier[i] == level && key[i] == last) {
            *cut = importance[i];
            if (equal-- > 0)
                best[i] = 1;
        }
    free(key);
    return 0;
}
