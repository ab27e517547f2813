// What changes from one step of a captured training to the next: it lies in the device's memory, where each replay finds it anew.
#pragma once
#include "common.cuh"

struct StepNumbers {
    u64 stream;            // added to the stream of every dropout
    float rate;            // of the optimiser, Adam's correction of the first moment in it
    float decay;           // what a parameter loses where weight decay is decoupled
    float correction;      // of Adam's second moment
    float gradient_scale;  // from here on `clip` writes; NaN where the step must not happen
    double norm;           // of all gradients
};

#define NOT_A_NUMBER __int_as_float(0x7fc00000)
