"""Report about a data set before training: `dataset` checks it, `formatting` prints it, `sample_sheet` draws it."""
