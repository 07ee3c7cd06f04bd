"""The server: pictures in, gaze out, over HTTP and a stream. `evg.serve.app.create_app` is the whole of it."""
