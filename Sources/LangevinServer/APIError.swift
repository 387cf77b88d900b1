import HTTPTypes
import Hummingbird
import LangevinJSON

/// Why a request is refused or a job failed: a status, and one line for the client.
struct APIError: Error, Sendable, Equatable {
  var status: HTTPResponse.Status
  var message: String
  var headers: HTTPFields = [:]

  init(_ status: HTTPResponse.Status, _ message: String, headers: HTTPFields = [:]) {
    (self.status, self.message, self.headers) = (status, message, headers)
  }

  /// What the request says cannot be.
  static func badRequest(_ message: String) -> APIError { APIError(.badRequest, message) }
  static func notFound(_ message: String) -> APIError { APIError(.notFound, message) }

  /// As OpenAI's clients know them.
  private var kind: String {
    switch status.code {
    case 401, 403: "authentication_error"
    case 404: "not_found_error"
    case 429: "rate_limit_error"
    case 400..<500: "invalid_request_error"
    default: "server_error"
    }
  }

  /// One form for all clients: `error.message` is where OpenAI's look, `detail` where A1111's do.
  var json: StrictJSON {
    .members([
      "error": .members([
        "message": .string(message), "type": .string(kind), "code": .integer(status.code),
      ]),
      "detail": .string(message),
    ])
  }

  var response: Response {
    var response = Response.json(json, status: status)
    for field in headers { response.headers.append(field) }
    return response
  }
}

extension StrictJSON {
  /// An object; members that are nil are left out.
  static func members(_ members: KeyValuePairs<String, StrictJSON?>) -> StrictJSON {
    .object(members.compactMap { key, value in value.map { Member(key, $0) } })
  }
}

extension Response {
  /// A JSON document with a line's end.
  static func json(_ json: StrictJSON, status: HTTPResponse.Status = .ok) -> Response {
    Response(
      status: status, headers: [.contentType: "application/json; charset=utf-8"],
      body: ResponseBody(byteBuffer: ByteBuffer(string: json.text + "\n")))
  }
}
