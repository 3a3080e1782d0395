{{/* Environment of a workload: (dict "root" $ "name" NAME). Settings of a service are GANDT_<SERVICE>__<KEY>. */}}
{{- define "gandt.env" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $facts := fromYaml (include "gandt.facts" $root) -}}
{{- $alone := eq .name "standalone" -}}
- {name: HOME, value: /tmp}
- {name: XDG_CACHE_HOME, value: /cache}
{{- if $alone }}
- {name: GANDT_STANDALONE__PROJECT, value: /var/lib/gandt}
- {name: GANDT_STANDALONE__LOG_LEVEL, value: {{ $v.serve.logLevel }}}
{{- end }}
{{- range $name := splitList " " (include "gandt.members" .) }}
{{- include "gandt.env.service" (dict "root" $root "name" $name "fact" (get $facts $name) "alone" $alone) }}
{{- end }}
{{- if not $alone }}
{{- range $callee := (get $facts .name).calls }}
{{- if has $callee (splitList " " (include "gandt.workloads" $root)) }}
- name: GANDT_ENDPOINTS__{{ upper $callee }}
  {{- $object := include "gandt.object" (dict "root" $root "name" $callee) }}
  {{- if eq (get $facts $callee).protocol "http" }}
  value: http://{{ $object }}:80
  {{- else }}
  value: dns:///{{ $object }}:{{ int (get $facts $callee).port }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with $v.auth.existingSecret }}
- {name: GANDT_ENDPOINTS__TOKEN, valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}}
{{- end }}
{{- if $v.tls.enabled }}
- {name: GANDT_ENDPOINTS__TLS_CA_FILE, value: /tls/ca.crt}
- {name: GANDT_ENDPOINTS__TLS_CERT_FILE, value: /tls/tls.crt}
- {name: GANDT_ENDPOINTS__TLS_KEY_FILE, value: /tls/tls.key}
{{- end }}
{{- if not $alone }}
- {name: AWS_DEFAULT_REGION, value: {{ $v.s3.region }}}
{{- with $v.s3.existingSecret }}
- {name: AWS_ACCESS_KEY_ID, valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_ACCESS_KEY_ID}}}
- {name: AWS_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_SECRET_ACCESS_KEY}}}
{{- end }}
{{- end }}
{{- $limits := (get $v .name).resources.limits | default dict }}
{{- if hasKey $limits "cpu" }}
{{- /* libraries count the node's processors, not the limit's */}}
- {name: OMP_NUM_THREADS, valueFrom: {resourceFieldRef: {containerName: gandt, resource: limits.cpu, divisor: "1"}}}
{{- if or $alone (eq .name "embedding") }}
- {name: GANDT_EMBEDDING__TORCH_THREADS, valueFrom: {resourceFieldRef: {containerName: gandt, resource: limits.cpu, divisor: "1"}}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Settings of one service: (dict "root" $ "name" NAME "fact" FACT "alone" BOOL). */}}
{{- define "gandt.env.service" -}}
{{- $v := .root.Values -}}
{{- $up := printf "GANDT_%s__" (upper .name) -}}
{{- $set := dict "HOST" "0.0.0.0" "DRAIN_SECONDS" $v.serve.drainSeconds -}}
{{- if not .alone -}}{{- $_ := set $set "DATA_DIR" "/var/lib/gandt" -}}{{- $_ := set $set "LOG_LEVEL" $v.serve.logLevel -}}{{- end -}}
{{- if eq .fact.protocol "grpc" -}}
{{- $_ := set $set "MAX_CONNECTION_AGE_SECONDS" $v.serve.maxConnectionAgeSeconds -}}
{{- $_ := set $set "REFLECTION" $v.serve.reflection -}}
{{- if $v.tls.enabled -}}
{{- $_ := set $set "TLS_CERT_FILE" "/tls/tls.crt" -}}
{{- $_ := set $set "TLS_KEY_FILE" "/tls/tls.key" -}}
{{- $_ := set $set "TLS_CLIENT_CA_FILE" "/tls/ca.crt" -}}
{{- end -}}
{{- end -}}
{{- if and (not .alone) .fact.objects -}}
{{- $_ := set $set "OBJECTS" "s3" -}}
{{- with $v.s3.endpoint -}}{{- $_ := set $set "S3_ENDPOINT_URL" . -}}{{- end -}}
{{- end -}}
{{- if and (eq .name "vectorsearch") $v.milvus.uri -}}{{- $_ := set $set "MILVUS_URI" $v.milvus.uri -}}{{- end -}}
{{- if eq .name "embedding" -}}
{{- if $v.embedding.gpu.enabled -}}{{- $_ := set $set "DEVICE" "cuda" -}}{{- $_ := set $set "MAX_BATCH" 64 -}}{{- $_ := set $set "MAX_DELAY_SECONDS" 0.002 -}}{{- end -}}
{{- end -}}
{{- if eq .name "jobcontroller" -}}
{{- if not .alone -}}{{- $_ := set $set "BUCKET" $v.s3.bucket -}}{{- end -}}
{{- if eq $v.backend.kind "ground-truth" -}}
{{- $_ := set $set "BACKEND" "ground-truth" -}}
{{- $_ := set $set "REGION" $v.backend.region -}}
{{- $_ := set $set "ROLE_ARN" $v.backend.roleArn -}}
{{- $_ := set $set "WORKTEAM_ARN" $v.backend.workteamArn -}}
{{- $_ := set $set "PRE_LAMBDA_ARN" $v.backend.preLambdaArn -}}
{{- $_ := set $set "POST_LAMBDA_ARN" $v.backend.postLambdaArn -}}
{{- $_ := set $set "POLL_SECONDS" 30 -}}
{{- end -}}
{{- end -}}
{{- if eq .name "labeling" -}}
{{- if $v.ingress.enabled -}}{{- $_ := set $set "PUBLIC_URL" (printf "https://%s" $v.ingress.host) -}}{{- end -}}
{{- if $v.gateway.enabled -}}{{- $_ := set $set "PUBLIC_URL" (printf "https://%s" $v.gateway.host) -}}{{- end -}}
{{- end -}}
{{- range $key, $value := (get $v .name).config -}}{{- $_ := set $set (upper $key) $value -}}{{- end -}}
{{- range $key, $value := $set }}
- name: {{ $up }}{{ $key }}
  value: {{ if or (kindIs "map" $value) (kindIs "slice" $value) }}{{ toJson $value | quote }}{{ else if kindIs "float64" $value }}{{ if eq (float64 (int64 $value)) $value }}{{ int64 $value | quote }}{{ else }}{{ $value | quote }}{{ end }}{{ else }}{{ $value | toString | quote }}{{ end }}
{{- end }}
{{- with $v.auth.existingSecret }}
{{- $secret := . }}
{{- if eq $.fact.protocol "grpc" }}
- {name: {{ $up }}TOKEN, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: token}}}
{{- else }}
- {name: {{ $up }}TOKEN, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: labeling-token}}}
- {name: {{ $up }}SECRET, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: labeling-secret}}}
{{- end }}
{{- if or (eq $.name "labeling") (and (eq $.name "jobcontroller") (eq $v.backend.kind "labeling")) }}
- {name: {{ $up }}ACCESS_KEY_ID, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: access-key-id}}}
- {name: {{ $up }}SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: secret-access-key}}}
{{- end }}
{{- end }}
{{- if and (eq .name "vectorsearch") $v.milvus.existingSecret }}
- {name: {{ $up }}MILVUS_TOKEN, valueFrom: {secretKeyRef: {name: {{ $v.milvus.existingSecret }}, key: token}}}
{{- end }}
{{- if and (has .name (list "jobcontroller" "labeling")) $v.database.existingSecret }}
- {name: {{ $up }}DATABASE_URL, valueFrom: {secretKeyRef: {name: {{ $v.database.existingSecret }}, key: {{ ternary "controller-url" "labeling-url" (eq .name "jobcontroller") }}}}}
{{- end }}
{{- end -}}
