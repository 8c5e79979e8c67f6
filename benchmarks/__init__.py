"""How fast and how large the product is, beside the official packages and a plain loop over them; none of it is a test.

    python -m benchmarks                      all of them, about four hours on 2 cores; writes benchmarks/RESULTS.md
    python -m benchmarks encoder decoder      only these; the other sections of the file stay
    python -m benchmarks.encoder --models vit_t --repeats 1      one of them, to the screen; --help lists its options

Run from the root of the repository on a machine that does nothing else. The reference packages come with
`pip install -e ".[test]"`. Every script prints Markdown on stdout and its progress on stderr.

In all tables but those of adapt and predict a ratio is the reference's time divided by ours, so above 1 ours is
faster, with the lowest and the highest ratio of the rounds in brackets. Ratios hold on other machines roughly; columns
marked "this run" do not.
"""
