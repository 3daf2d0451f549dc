"""A Dockerfile and a context become an image.

    dockerfile   text -> stages of instructions: lines, words, instructions, mounts, position; script: out of a shell's
    lint         what should be written otherwise
    graph        which stages are needed; building: at once where they can be
    stages       a stage's instructions, one after the other: settings, adding, copying, straight, running, networks
    contexts     where files come from: picking, ignore, texts, hashes, remembered, listing, remote
    cache        what was built already, and why not; exchange: from and to elsewhere; prune: what goes
    output       what becomes of the result; attest, packages: what is told of it; depfile: for make
"""
