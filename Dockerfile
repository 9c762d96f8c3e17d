FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY statecast ./statecast
COPY publisher ./publisher
COPY consumers ./consumers
RUN pip install --no-cache-dir --constraint constraints.txt . && useradd --system statecast
USER statecast
ENTRYPOINT ["statecast"]
CMD ["publish"]
