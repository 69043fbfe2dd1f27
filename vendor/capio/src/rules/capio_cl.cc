#include "rules/capio_cl.h"

#include <cerrno>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "rules/cl_file.h"
#include "rules/cl_rule_list.h"
#include "rules/json_tree.h"
#include "rules/text.h"

namespace capio {

std::string FormatDiagnostic(const ClDiagnostic& diagnostic, std::string_view file_name) {
  std::string text = Printable(file_name) + ": line " + std::to_string(diagnostic.line);
  if (diagnostic.column > 0) text += ", column " + std::to_string(diagnostic.column);
  if (!diagnostic.pointer.empty()) text += ", " + Printable(diagnostic.pointer);
  return text + ": " + Printable(diagnostic.message);
}

namespace {

// Runs read(document), which finds errors, unless the text is no JSON.
template <typename Read>
Result<Workflow> ReadJson(std::string_view text, std::string_view file_name, const ClPlace& place,
                          std::vector<ClDiagnostic>* errors, Read read) {
  errors->clear();
  if (place.capio_dir.empty() || place.capio_dir.front() != '/') {
    return Status::Error(EINVAL,
                         "CAPIO_DIR must be an absolute path to read a CAPIO-CL file for it");
  }
  try {
    const Document document = ParseJson(text);
    if (document.syntax_error) {
      errors->push_back(*document.syntax_error);
      return Workflow();
    }
    return read(document);
  } catch (const std::bad_alloc&) {
    return Status::Error(ENOMEM);
  } catch (const std::exception& error) {
    return Status::Error(EINVAL, Printable(file_name) + ": " + error.what());
  }
}

}  // namespace

Result<Workflow> ReadCapioCl(std::string_view text, std::string_view file_name,
                             const ClPlace& place, std::vector<ClDiagnostic>* errors,
                             int* configuration_line) {
  return ReadJson(text, file_name, place, errors, [&](const Document& document) {
    int line = 0;
    Workflow workflow = ReadClFile(document, file_name, place, errors, &line);
    if (configuration_line != nullptr) *configuration_line = line;
    return workflow;
  });
}

std::string FormatDiagnostics(const std::vector<ClDiagnostic>& diagnostics,
                              std::string_view file_name) {
  std::string lines;
  for (const ClDiagnostic& diagnostic : diagnostics) {
    if (!lines.empty()) lines += '\n';
    lines += FormatDiagnostic(diagnostic, file_name);
  }
  return lines;
}

Result<Workflow> ParseCapioCl(std::string_view text, std::string_view file_name,
                              const ClPlace& place) {
  std::vector<ClDiagnostic> errors;
  Result<Workflow> workflow = ReadCapioCl(text, file_name, place, &errors);
  if (!workflow.ok() || errors.empty()) return workflow;
  return Status::Error(EINVAL, FormatDiagnostics(errors, file_name));
}

Result<Workflow> ParseRules(std::string_view json, const ClPlace& place) {
  std::vector<ClDiagnostic> errors;
  Result<Workflow> workflow = ReadJson(
      json, "rules", place, &errors,
      [&](const Document& document) { return ReadClRuleList(document, "rules", place, &errors); });
  if (!workflow.ok() || errors.empty()) return workflow;
  std::string lines;
  for (const ClDiagnostic& error : errors) {
    if (!lines.empty()) lines += '\n';
    lines += error.column > 0 ? FormatDiagnostic(error, "rules") : Printable(error.message);
  }
  return Status::Error(EINVAL, std::move(lines));
}

}  // namespace capio
