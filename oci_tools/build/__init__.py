"""A Dockerfile and a context become an image.

    dockerfile   text -> stages of instructions: lines, words, flags, instructions, mounts
    graph        which stages are needed, in which order, for which platform
    stages       a stage's instructions, one after the other: state, copying, adding, running
    context      where files come from: context, ignore, hashes, remote
    cache        what was built already, and why not
    output       what becomes of the result: output, attest, sbom, depfile
"""
