"""Kubernetes' objects -> containers of Docker's API, and back: pure, nothing is asked or made here.

    objects.py     a file of them: pods, and what they take from ConfigMaps, Secrets, claims, Services
    pod.py         a pod -> what creates its containers; security.py, limits.py, probes.py are parts of that
    variables.py   env, envFrom, valueFrom, $(NAME)
    volumes.py     volumes -> volumes of the engine with files in them, and mounts
    generate.py    containers as they are -> a pod

The API of Kubernetes is `v1` (core/v1 in k8s.io/api); what podman-kube-play(1) makes of it is what is made here.
The first container of a pod is the infra container, which does nothing: network, ipc and uts namespaces of the
others are its own, so that they outlive each of these.
"""
