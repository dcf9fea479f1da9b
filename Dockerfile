# The API by default; with another command, any program of the repository:
#   docker build -t pregao .
#   docker run -p 5000:5000 pregao
#   docker run -v pregao:/home/pregao/outputs pregao python train.py experiment=quickstart
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

FROM python AS build
# An index with torch for CPU: CUDA's gigabytes are useless on a server without a GPU.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/pregao
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.lock pyproject.toml ./
# torch first, so that the next pip install does not choose another build.
RUN pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements.lock)"
# The run-time dependencies at their locked versions, without the development tools and the models that are never served.
# setuptools is pinned, since pip would otherwise fetch its latest version to build the packages without a wheel.
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = project["optional-dependencies"]; \
print(*project["dependencies"], *(one for name in extras if name not in ("dev", "foundation") for one in extras[name]), sep="\n")' \
    > /tmp/needed.txt \
 && pip install setuptools==84.2.1 \
 && pip install --no-build-isolation --constraint requirements.lock --requirement /tmp/needed.txt
COPY README.md LICENSE ./
COPY src src
RUN pip install --no-build-isolation --no-deps --editable . \
 && pip check \
 && pip uninstall --yes setuptools pip

FROM python
LABEL org.opencontainers.image.title="Pregão" \
      org.opencontainers.image.description="Forecasts the next 10 daily closes of B3 stocks, with bands" \
      org.opencontainers.image.licenses="MIT"
# The final image cannot build or install packages.
RUN python -m pip uninstall --yes setuptools wheel pip \
 && groupadd --gid 10001 pregao \
 && useradd --uid 10001 --gid pregao --home-dir /home/pregao --no-create-home --shell /usr/sbin/nologin pregao \
 && install --directory --owner=pregao --group=pregao \
    /home/pregao /home/pregao/data /home/pregao/outputs /home/pregao/mlruns
# Caches of matplotlib and yfinance in /tmp: the root may be read-only. MLflow warns if git is missing, unless quiet.
ENV PATH=/opt/venv/bin:$PATH \
    PREGAO_HOME=/home/pregao \
    OMP_NUM_THREADS=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    GIT_PYTHON_REFRESH=quiet \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/pregao
COPY LICENSE *.py ./
COPY conf conf
COPY models models
COPY src src
USER 10001:10001
VOLUME ["/home/pregao/data", "/home/pregao/outputs", "/home/pregao/mlruns"]
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s \
    CMD ["python", "-m", "pregao.api.healthcheck"]
# Open to other machines: publish the port on 127.0.0.1 only, or set PREGAO_API_KEY.
CMD ["python", "serve.py", "host=0.0.0.0", "insecure=true"]
