# The repository with its environment. The README's section "Elsewhere" has the commands.
FROM python:3.11-slim-bookworm

# git is for DVC, the compiler for compiled layers, Chromium for the tests of pages.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends build-essential chromium git \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home --uid 1000 runner \
  && install --directory --owner runner /home/runner/preference

USER 1000
WORKDIR /home/runner/preference
# DVC records experiments as commits.
ENV GIT_AUTHOR_NAME=runner GIT_AUTHOR_EMAIL=runner@localhost \
  GIT_COMMITTER_NAME=runner GIT_COMMITTER_EMAIL=runner@localhost

# The default index has torch with CUDA. The index of PyTorch's CPU builds, which
# https://pytorch.org/get-started/locally names, makes a smaller image without it.
ARG PIP_EXTRA_INDEX_URL
ARG PIP_NO_CACHE_DIR=1
# Before the rest, so that a change to the code installs nothing anew.
COPY --chown=1000 Makefile requirements.txt requirements-dev.txt constraints.txt ./
RUN make .venv/installed-dev

COPY --chown=1000 . .
ENV PATH=/home/runner/preference/.venv/bin:$PATH
CMD ["dvc", "repro"]
