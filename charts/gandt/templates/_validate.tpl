{{/* What cannot work, said before anything is installed: what is wrong, and what to set. */}}
{{- define "gandt.validate" -}}
{{- $v := .Values -}}
{{- $far := eq $v.mode "distributed" -}}
{{- if and $far (not $v.s3.bucket) -}}
{{- fail "mode=distributed needs an S3 bucket that all services reach: set s3.bucket (and s3.endpoint for an S3 that is not Amazon's)" -}}
{{- end -}}
{{- if and $far (not $v.auth.existingSecret) -}}
{{- fail "mode=distributed needs auth.existingSecret: kubectl create secret generic gandt-auth --from-literal=token=... --from-literal=labeling-token=... --from-literal=labeling-secret=... --from-literal=access-key-id=gandt --from-literal=secret-access-key=..." -}}
{{- end -}}
{{- if and (not $far) (not $v.auth.existingSecret) (not $v.networkPolicy.enabled) -}}
{{- fail "without network policies and without a token everybody in the cluster could call the services: set auth.existingSecret, or networkPolicy.enabled=true" -}}
{{- end -}}
{{- if and (not $far) (ne $v.backend.kind "labeling") -}}
{{- fail "backend.kind=ground-truth needs mode=distributed: Ground Truth reads and writes S3" -}}
{{- end -}}
{{- if and (not $far) $v.tls.enabled -}}
{{- fail "tls.enabled needs mode=distributed: the services of a standalone pod call each other on loopback" -}}
{{- end -}}
{{- if and (not $far) $v.embedding.gpu.enabled -}}
{{- fail "embedding.gpu.enabled needs mode=distributed: the standalone image has no CUDA libraries" -}}
{{- end -}}
{{- if and (not $far) (ne $v.embedding.autoscaling.mode "none") -}}
{{- fail "embedding.autoscaling needs mode=distributed: a standalone pod owns its volume and runs once" -}}
{{- end -}}
{{- if and (gt (int $v.vectorsearch.replicas) 1) (not $v.milvus.uri) -}}
{{- fail (printf "vectorsearch.replicas=%d needs a Milvus server, as Milvus Lite is one file of one process: set milvus.uri" (int $v.vectorsearch.replicas)) -}}
{{- end -}}
{{- range $name := list "jobcontroller" "labeling" -}}
{{- if gt (int (get $v $name).replicas) 1 -}}
{{- if not $v.database.existingSecret -}}
{{- fail (printf "%s.replicas=%d needs PostgreSQL, as SQLite is one file of one process: set database.existingSecret" $name (int (get $v $name).replicas)) -}}
{{- else if eq $name "labeling" -}}
{{- fail "labeling.replicas must be 1: one labeling service assigns the tasks" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.backend.kind "ground-truth") (not (and $v.backend.region $v.backend.roleArn $v.backend.workteamArn $v.backend.preLambdaArn $v.backend.postLambdaArn)) -}}
{{- fail "backend.kind=ground-truth needs backend.region, roleArn, workteamArn, preLambdaArn and postLambdaArn: see docs/how-to/label-with-ground-truth.md" -}}
{{- end -}}
{{- if and $v.tls.enabled (not $v.tls.certManager.issuer) (not $v.tls.existingSecret) -}}
{{- fail "tls.enabled needs certificates: set tls.certManager.issuer, or tls.existingSecret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and $v.tls.enabled $v.tls.certManager.issuer (not $v.tls.existingSecret) (not (.Capabilities.APIVersions.Has "cert-manager.io/v1")) -}}
{{- fail "tls.certManager.issuer is set and cert-manager is not installed: install it, or set tls.existingSecret" -}}
{{- end -}}
{{- if and $v.ingress.enabled $v.gateway.enabled -}}
{{- fail "ingress.enabled and gateway.enabled lead to the same page: choose one" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not (and $v.ingress.host $v.ingress.tlsSecret)) -}}
{{- fail "ingress.enabled needs ingress.host and ingress.tlsSecret: workers sign in, so the page is served by TLS only" -}}
{{- end -}}
{{- if and $v.gateway.enabled (not (and $v.gateway.host $v.gateway.parentRefs)) -}}
{{- fail "gateway.enabled needs gateway.host and gateway.parentRefs (a Gateway that ends TLS)" -}}
{{- end -}}
{{- if and (or $v.ingress.enabled $v.gateway.enabled) (ne $v.backend.kind "labeling") -}}
{{- fail "ingress and gateway lead to our labeling service, which backend.kind=ground-truth does not start: turn them off" -}}
{{- end -}}
{{- with $v.embedding.autoscaling -}}
{{- if and (eq .mode "hpa") (eq (int .minReplicas) 0) -}}
{{- fail "embedding.autoscaling.minReplicas=0 needs mode=keda: a HorizontalPodAutoscaler cannot scale to zero" -}}
{{- end -}}
{{- if and (eq .mode "keda") (not .prometheusAddress) -}}
{{- fail "embedding.autoscaling.mode=keda needs prometheusAddress, as http://prometheus-operated.monitoring:9090" -}}
{{- end -}}
{{- if and (eq .mode "keda") (not ($.Capabilities.APIVersions.Has "keda.sh/v1alpha1")) -}}
{{- fail "embedding.autoscaling.mode=keda and KEDA is not installed: install it, or take mode=hpa" -}}
{{- end -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail "embedding.autoscaling.minReplicas is above maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- if and (not $v.persistence.enabled) $far (not (and $v.milvus.uri $v.database.existingSecret)) -}}
{{- fail "persistence.enabled=false loses vectors and labels with the pod: set milvus.uri and database.existingSecret, or keep persistence" -}}
{{- end -}}
{{- end -}}
